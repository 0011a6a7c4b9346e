// Adafactor (Shazeer and Stern, arXiv 1804.04235): a matrix keeps means of its squared gradients by
// row and by column, a vector keeps the squares. Two forms: transformers' under the settings of its
// Trainer (no relative step, no scaling by the parameter), and torch.optim.Adafactor.

#include <array>
#include <cmath>
#include <limits>

#include "passes/optimizers/rule.h"

namespace snug {
namespace {

constexpr double kAny = std::numeric_limits<double>::infinity();
constexpr std::array<std::string_view, 3> kArguments = {"clip_threshold", "decay_rate",
                                                        "scale_parameter"};

/// What a form of the rule fixes, and what optim_args may change.
struct AdafactorForm {
  const char* name;
  double eps1;
  bool scale_parameter;
};
constexpr AdafactorForm kTransformers{"transformers", 1e-30, false};
/// torch takes the machine epsilon of the parameter's type; the arithmetic here is fp32's.
constexpr AdafactorForm kTorch{"torch", 0x1p-23, true};

void emit(ParameterUpdate& update, const OptimizerSettings& settings, const AdafactorForm& form) {
  const bool matrix = update.shape().rank() == 2;
  if (matrix) {
    update.add_state("exp_avg_sq_row", {DType::f32, {update.shape()[0]}});
    update.add_state("exp_avg_sq_col", {DType::f32, {update.shape()[1]}});
  } else {
    update.add_state("exp_avg_sq");
  }
  update.add_scalar("scalar/rate");
  update.add_scalar("scalar/rest");
  const bool scaled = switch_argument(settings, "scale_parameter", form.scale_parameter);
  update.emit(matrix ? Op::adafactor : Op::adafactor_vector,
              {{"form", form.name},
               {"eps1", form.eps1},
               {"eps2", 1e-3},
               {"clip_threshold", number_argument(settings, "clip_threshold", 1.0, 1e-9, kAny)},
               {"scale_parameter", std::int64_t{scaled ? 1 : 0}}},
              settings.weight_decay);
}

void update_transformers(ParameterUpdate& update, const OptimizerSettings& settings) {
  emit(update, settings, kTransformers);
}
void update_torch(ParameterUpdate& update, const OptimizerSettings& settings) {
  emit(update, settings, kTorch);
}

void set_rest(const OptimizerSettings& settings, double t, SetScalar set) {
  const double rate = number_argument(settings, "decay_rate", -0.8, -kAny, 0.0);
  set("scalar/rest", static_cast<float>(std::pow(t, rate)));
}

void transformers_scalars(const OptimizerSettings& settings, double learning_rate, double t,
                          SetScalar set) {
  set("scalar/rate", static_cast<float>(learning_rate));
  set_rest(settings, t, set);
}

void torch_scalars(const OptimizerSettings& settings, double learning_rate, double t,
                   SetScalar set) {
  set("scalar/rate", static_cast<float>(std::min(learning_rate, 1.0 / std::sqrt(t))));
  set_rest(settings, t, set);
}

}  // namespace

std::span<const OptimizerRule> adafactor_rules() {
  static constexpr std::array kRules{
      OptimizerRule{.name = Optimizer::adafactor,
                    .note = "Adafactor as transformers' Trainer runs it; it can be unstable at the "
                            "start, so warm up; transformers advises a learning rate near 1e-3",
                    .update = update_transformers,
                    .scalars = transformers_scalars,
                    .arguments = kArguments},
      OptimizerRule{.name = Optimizer::adafactor_torch,
                    .note = "Adafactor as torch.optim.Adafactor: steps are relative to the "
                            "parameters' size; its own default of learning_rate is 1e-2",
                    .update = update_torch,
                    .scalars = torch_scalars,
                    .arguments = kArguments}};
  return kRules;
}

}  // namespace snug
