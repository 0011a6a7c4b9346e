#include "plan/recipe_text.h"

#include "core/settings_table.h"
#include "core/text.h"
#include "passes/freeze.h"
#include "passes/lora.h"
#include "passes/quantize.h"
#include "passes/recompute.h"

namespace snug {

std::string describe_tuning(const Settings& settings) {
  std::string text = describe_adapters(settings);
  if (text.empty()) text = find_setting("finetuning_type").row->field.print(settings);
  return text + describe_unfrozen(settings.freeze) + describe_base(settings.quantization);
}

std::string describe_recipe(const Recipe& recipe) {
  const Settings& settings = recipe.settings;
  const auto& precision = settings.precision;
  std::string type = "fp32";
  if (precision.fp16) type = "fp16 + fp32 master";
  if (precision.bf16) {
    type = precision.master_weights == MasterWeights::fp32 ? "bf16 + fp32 master"
                                                           : "bf16, stochastic rounding";
  }
  const auto limit = limit_of(settings.recompute);
  const std::string policy =
      limit ? binary_bytes(*limit)
            : find_setting("activation_checkpointing").row->field.print(recipe.settings);
  const StepScript& script = recipe.module->script;
  const std::int64_t longest =
      script.buckets.empty() ? script.evaluations.back().length : script.buckets.back().length;
  std::string text = fmt::format("{}, {}, {} × {} rows of ≤ {}", describe_tuning(settings), type,
                                 recipe.accumulation, recipe.micro_rows, longest);
  const std::string optimizer = find_setting("optim").row->field.print(settings);
  if (optimizer != "adamw_torch") text += ", " + optimizer;
  if (settings.update_in_backward.on) text += ", update_in_backward";
  if (policy != "false") text += ", activation_checkpointing " + policy;
  return text;
}

std::string describe_verdict(const Recipe& recipe, std::int64_t budget_bytes) {
  constexpr double kGibibyte = 1024.0 * 1024.0 * 1024.0;
  constexpr double kMebibyte = 1024.0 * 1024.0;
  const bool large = static_cast<double>(budget_bytes) >= kGibibyte;
  const double unit = large ? kGibibyte : kMebibyte;
  return fmt::format("{}: {:.2f} of {:.2f} {} on {} · {}", recipe.fits ? "fits" : "does not fit",
                     static_cast<double>(recipe.needed_bytes) / unit,
                     static_cast<double>(budget_bytes) / unit, large ? "GiB" : "MiB",
                     recipe.plan.target.backend, describe_recipe(recipe));
}

}  // namespace snug
