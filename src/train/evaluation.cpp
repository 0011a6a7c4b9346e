#include "train/evaluation.h"

#include <chrono>
#include <cmath>
#include <utility>

#include "core/error.h"
#include "core/text.h"
#include "exec/executor.h"
#include "train/request.h"
#include "train/run_setup.h"
#include "train/step_runner.h"
#include "train/weights.h"

namespace snug {
EvaluationResult evaluate_model(const Settings& given, Talk talk) {
  Settings settings = given;
  const ModelSource model = open_model(settings.model);
  if (!model.has_weights) {
    user_error("eval needs a model folder; '{}' has no weights.", settings.model.name_or_path);
  }
  if (!settings.data.eval_files.empty()) settings.data.train_files = settings.data.eval_files;
  settings.data.eval_files.clear();
  settings.data.val_size = {};
  DataSource data = open_rows(settings, model);
  data.eval = std::exchange(data.train, {});
  const RunRequest request = make_request(settings, model, data, nullptr);
  Recipe recipe = make_recipe(request, model);
  if (!recipe.fits) {
    throw DoesNotFit(
        fmt::format("does not fit: needs {}, device_memory is {}. Lower "
                    "per_device_train_batch_size or max_length.",
                    binary_bytes(recipe.needed_bytes), binary_bytes(request.recipe.budget_bytes)));
  }
  ThreadPool pool(request.recipe.target.threads);
  const auto owned = make_executor(recipe, pool, {});
  Executor& executor = *owned;
  executor.play(recipe.module->script.init);
  fill_weights(
      recipe.module->parameters, model, static_cast<std::uint64_t>(settings.run.seed),
      [&](std::string_view name) { return executor.bytes(name); }, pool);
  for (const std::string& note : model.notes) talk.out << note << "\n";
  talk.out << fmt::format("eval: {} rows · {} labels · {} planned\n", data.eval.size(),
                          data.eval.counts().trained_tokens,
                          binary_bytes(recipe.plan.arena(Space::device).bytes));
  const auto start = std::chrono::steady_clock::now();
  const EvaluationOutcome outcome = StepRunner(recipe, executor).evaluate(data.eval);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return {.loss = outcome.loss(),
          .perplexity = std::exp(outcome.loss()),
          .rows = data.eval.size(),
          .labels = outcome.labels,
          .seconds = seconds.count(),
          .planned_peak_bytes = recipe.plan.arena(Space::device).bytes,
          .used_peak_bytes = executor.used_peak(Space::device)};
}

}  // namespace snug
