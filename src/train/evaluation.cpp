#include "train/evaluation.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "backend/backend.h"
#include "core/error.h"
#include "core/text.h"
#include "exec/executor.h"
#include "passes/pipeline.h"
#include "train/run_setup.h"
#include "train/step_runner.h"
#include "train/weights.h"

namespace snug {
namespace {

constexpr std::int64_t kDefaultRows = 8;

}  // namespace

EvaluationResult evaluate_model(const Settings& given, Talk talk) {
  Settings settings = given;
  const ModelSource model = open_model(settings.model);
  if (!model.has_weights) {
    user_error("eval needs a model folder; '{}' has no weights.", settings.model.name_or_path);
  }
  adopt_quantization(settings, model);
  adopt_stored_dtype(settings, model);
  if (!settings.data.eval_files.empty()) settings.data.train_files = settings.data.eval_files;
  settings.data.eval_files.clear();
  settings.data.val_size = {};
  const DataSource data = open_data(settings, model);
  const Target target = make_target(settings.device);
  const auto kernels = make_backend(target);
  const std::int64_t rows = std::min(
      settings.batch.per_device_train_batch_size.value_or(kDefaultRows), data.train.size());
  const auto lengths = choose_buckets(data.train, settings.data.bucket_count);
  Recipe recipe;
  recipe.settings = settings;
  recipe.rows_per_step = recipe.micro_rows = rows;
  recipe.module = std::make_unique<StepModule>(compile_evaluation(
      model.config, {.rows = rows, .lengths = lengths, .rope_positions = lengths.back()},
      settings));
  check_adapter(recipe.module->parameters, model, settings.lora.modules_to_save);
  recipe.plan = make_plan(*recipe.module, *kernels, target);
  const ProcessMemory memory = process_memory(settings.device, target);
  const std::int64_t needed = recipe.plan.arena(Space::device).bytes + memory.outside;
  if (needed > memory.budget) {
    throw DoesNotFit(
        fmt::format("does not fit: needs {}, device_memory is {}. Lower "
                    "per_device_train_batch_size or max_length.",
                    binary_bytes(needed), binary_bytes(memory.budget)));
  }
  const ModelWeights weights(model.folder);
  check_packed_weights(recipe.module->parameters, weights);
  ThreadPool pool(target.threads);
  Executor executor(recipe.plan, reserve_arenas(recipe.plan, pool), pool);
  executor.play(recipe.module->script.init);
  fill_weights(
      recipe.module->parameters, model, static_cast<std::uint64_t>(settings.run.seed),
      [&](std::string_view name) { return executor.bytes(name); }, pool);
  for (const std::string& note : model.notes) talk.out << note << "\n";
  talk.out << fmt::format("eval: {} rows · {} labels · {} planned\n", data.train.size(),
                          data.train.counts().trained_tokens,
                          binary_bytes(recipe.plan.arena(Space::device).bytes));
  const auto start = std::chrono::steady_clock::now();
  const EvaluationOutcome outcome = StepRunner(recipe, executor).evaluate(data.train);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return {.loss = outcome.loss(),
          .perplexity = std::exp(outcome.loss()),
          .rows = data.train.size(),
          .labels = outcome.labels,
          .seconds = seconds.count(),
          .planned_peak_bytes = recipe.plan.arena(Space::device).bytes,
          .used_peak_bytes = executor.used_peak(Space::device)};
}

}  // namespace snug
