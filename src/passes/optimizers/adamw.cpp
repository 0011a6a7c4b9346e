// AdamW as torch.optim.AdamW: fp32 moments.

#include "passes/optimizers/adamw.h"

#include <array>
#include <cmath>

namespace snug {

void set_adam_corrections(const OptimizerSettings& settings, double, double t, SetScalar set) {
  set("scalar/correction1", static_cast<float>(1.0 - std::pow(settings.adam_beta1, t)));
  set("scalar/correction2", static_cast<float>(1.0 - std::pow(settings.adam_beta2, t)));
}

Attributes adam_attributes(const OptimizerSettings& settings) {
  return {{"beta1", settings.adam_beta1},
          {"beta2", settings.adam_beta2},
          {"eps", settings.adam_epsilon}};
}

void emit_adamw(ParameterUpdate& update, const OptimizerSettings& settings, std::string_view m,
                std::string_view v) {
  update.add_state(m);
  update.add_state(v);
  update.add_scalar("scalar/correction1");
  update.add_scalar("scalar/correction2");
  update.emit(Op::adamw, adam_attributes(settings), settings.weight_decay);
}

namespace {

void update_adamw(ParameterUpdate& update, const OptimizerSettings& settings) {
  emit_adamw(update, settings, "exp_avg", "exp_avg_sq");
}

}  // namespace

std::span<const OptimizerRule> adamw_rules() {
  static constexpr std::array kRules{OptimizerRule{.name = Optimizer::adamw_torch,
                                                   .note = "",
                                                   .update = update_adamw,
                                                   .scalars = set_adam_corrections}};
  return kRules;
}

}  // namespace snug
