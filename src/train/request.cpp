#include "train/request.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "backend/backend.h"
#include "core/error.h"
#include "core/heap.h"
#include "core/settings_table.h"
#include "core/text.h"
#include "data/batches.h"
#include "passes/quantize.h"
#include "passes/recompute.h"
#include "plan/playable.h"
#include "train/weights.h"

namespace snug {
namespace {

constexpr std::int64_t kEvaluationRows = 8;
/// Of a logged step: its row as JSON, and twice its text while that is written.
constexpr std::int64_t kLoggedRow = 1536;
/// What a tokenizer takes for a byte of its file.
constexpr std::int64_t kTokenizerPerByte = 16;
/// Rows are held up to that often while lists of them grow and are copied.
constexpr std::int64_t kRowsAtOnce = 6;

RunBytes run_bytes(const ModelSource& model, const DataSource& data, const RunSchedule* schedule) {
  RunBytes bytes;
  const std::int64_t rows = data.train.size() + data.eval.size();
  bytes.rows = data.train.bytes() + data.eval.bytes() +
               rows * static_cast<std::int64_t>(sizeof(std::int64_t));
  bytes.reading = kRowsAtOnce * bytes.rows;
  const std::filesystem::path tokenizer = model.folder / "tokenizer.json";
  if (rows > 0 && !model.folder.empty() && std::filesystem::exists(tokenizer)) {
    bytes.reading +=
        kTokenizerPerByte * static_cast<std::int64_t>(std::filesystem::file_size(tokenizer));
  }
  if (schedule != nullptr) {
    std::int64_t logged = schedule->steps() / schedule->log_every() + 2;
    if (schedule->eval_every() > 0) logged += schedule->steps() / schedule->eval_every() + 2;
    bytes.history = logged * kLoggedRow;
  }
  bytes.fills_weights = !model.has_weights;
  return bytes;
}

/// Settles what is open as the run before had it.
void keep_recipe(RunRequest& run, const Progression& before) {
  Settings& settings = run.recipe.settings;
  if (!resolve_batch(settings).micro) {
    // Another micro-batch would add the gradients up in another order.
    settings.batch.per_device_train_batch_size = before.trainer.train_batch_size;
  }
  if (!is_automatic(settings.recompute) || before.recompute.empty()) return;
  const Settings open = settings;
  const Field& field = find_setting("activation_checkpointing").row->field;
  if (!field.read(settings, RawValue::scalar(before.recompute))) return;
  run.otherwise = open;
  run.otherwise_said = fmt::format(
      "recipe: the resumed run's activation_checkpointing={} does not fit; chosen anew\n",
      before.recompute);
}

void check_quantization(const Settings& settings, const ModelConfig& config) {
  if (config.quantization || !quantizes(settings.quantization)) return;
  if (packed_format(settings.quantization) != PackedFormat::fp4) return;
  user_error(
      "bnb_4bit_quant_type=fp4: '{}' is not quantised; snug quantises to nf4 and reads fp4 only as "
      "stored. Use bnb_4bit_quant_type=nf4.",
      settings.model.name_or_path);
}

/// Of an evaluation alone: the type the weights have, and no more rows at a time than there are.
void settle_evaluation(Settings& settings, const ModelSource& model, const Dataset& rows) {
  adopt_stored_dtype(settings, model);
  settings.recompute = nothing_recomputed();
  const std::int64_t wanted = settings.batch.per_device_train_batch_size.value_or(kEvaluationRows);
  const std::int64_t micro = std::min(wanted, rows.size());
  settings.batch = {.global_batch_size = micro,
                    .per_device_train_batch_size = micro,
                    .gradient_accumulation_steps = std::nullopt};
}

void set_lengths(RecipeRequest& request, const DataSource& data) {
  const std::int64_t buckets = request.settings.data.bucket_count;
  if (data.train.size() == 0 && data.eval.size() == 0) {
    request.lengths = request.evaluation_lengths = {data.max_length};
  }
  if (data.train.size() > 0) request.lengths = choose_buckets(data.train, buckets);
  if (data.eval.size() > 0) request.evaluation_lengths = choose_buckets(data.eval, buckets);
  for (const auto* lengths : {&request.lengths, &request.evaluation_lengths}) {
    if (lengths->empty()) continue;
    request.rope_positions = std::max(request.rope_positions, lengths->back());
  }
}

}  // namespace

RunRequest make_request(const Settings& settings, const ModelSource& model, const DataSource& data,
                        const Progression* before) {
  RunRequest run;
  RecipeRequest& request = run.recipe;
  request.config = model.config;
  request.settings = settings;
  adopt_quantization(request.settings, model);
  check_quantization(request.settings, model.config);
  set_lengths(request, data);
  if (request.lengths.empty()) settle_evaluation(request.settings, model, data.eval);
  if (before != nullptr) keep_recipe(run, *before);
  if (data.train.size() > 0) {
    run.schedule =
        std::make_unique<RunSchedule>(request.settings, data.train.size(),
                                      resolve_batch(request.settings).rows, data.eval.size() > 0);
  }
  request.target = make_target(settings.device);
  run.kernels = make_backend(request.target);
  const ProcessMemory memory = process_memory(settings.device, request.target);
  request.budget_bytes = memory.budget;
  run.budget_from = memory.from;
  request.run = run_bytes(model, data, run.schedule.get());
  return run;
}

namespace {

/// The recipe that fits, if there is one.
std::optional<Recipe> fitting_recipe(const RecipeRequest& request, const KernelSource& kernels) {
  try {
    Recipe recipe = choose_recipe(request, kernels, nullptr);
    if (recipe.fits) return recipe;
  } catch (const UserError&) {
    return std::nullopt;  // a limit that other rows do not keep
  }
  return std::nullopt;
}

}  // namespace

Recipe make_recipe(const RunRequest& request, const ModelSource& model, std::string* said) {
  Recipe recipe = in_other_heap([&] {
    RecipeRequest asked = request.recipe;
    if (request.otherwise) {
      if (auto kept = fitting_recipe(asked, *request.kernels)) return std::move(*kept);
      asked.settings = *request.otherwise;
      if (said != nullptr) *said = request.otherwise_said;
    }
    return choose_recipe(asked, *request.kernels, nullptr);
  });
  const ParameterTable& parameters = recipe.module->parameters;
  check_adapter(parameters, model, request.recipe.settings.lora.modules_to_save);
  if (model.has_weights) check_packed_weights(parameters, ModelWeights(model.folder));
  return recipe;
}

std::unique_ptr<Executor> make_executor(Recipe& recipe, ThreadPool& pool, ExecutorOptions options) {
  Sequences sequences(recipe.plan);
  // A card's player names instructions and tensors where a kernel fails.
  if (!recipe.plan.target.card.present()) recipe = playable(recipe);
  give_back_free_heap();
  return std::make_unique<Executor>(recipe.plan, std::move(sequences),
                                    reserve_arenas(recipe.plan, pool), pool, options);
}

void check_outside(const Recipe& recipe, const Arenas& arenas) {
  if (!heap_is_settled() || recipe.plan.target.card.present()) return;
  const std::int64_t held = anonymous_bytes() - arenas[Space::device].bytes();
  check(held <= recipe.outside.total(),
        "the process holds {} bytes beside the arenas, computed were {}", held,
        recipe.outside.total());
}

}  // namespace snug
