#include "train/request.h"

#include <algorithm>

#include "backend/backend.h"
#include "core/error.h"
#include "data/batches.h"
#include "passes/quantize.h"
#include "passes/recompute.h"
#include "train/weights.h"

namespace snug {
namespace {

constexpr std::int64_t kEvaluationRows = 8;

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
  if (before != nullptr && !resolve_batch(request.settings).micro) {
    // Another micro-batch would add the gradients up in another order.
    request.settings.batch.per_device_train_batch_size = before->trainer.train_batch_size;
  }
  if (data.train.size() > 0) {
    run.schedule =
        std::make_unique<RunSchedule>(request.settings, data.train.size(),
                                      resolve_batch(request.settings).rows, data.eval.size() > 0);
  }
  request.target = make_target(settings.device);
  run.kernels = make_backend(request.target);
  const ProcessMemory memory = process_memory(settings.device, request.target);
  request.budget_bytes = memory.budget;
  request.outside_bytes = memory.outside;
  return run;
}

Recipe make_recipe(const RunRequest& request, const ModelSource& model) {
  Recipe recipe = choose_recipe(request.recipe, *request.kernels, nullptr);
  const ParameterTable& parameters = recipe.module->parameters;
  check_adapter(parameters, model, request.recipe.settings.lora.modules_to_save);
  if (model.has_weights) check_packed_weights(parameters, ModelWeights(model.folder));
  return recipe;
}

}  // namespace snug
