// AdamW with 8-bit moments (Dettmers et al., arXiv 2110.02861): codes of the dynamic maps, blocks
// of 256 with one absmax each. Components are named as in bitsandbytes' state.

#include <array>

#include "passes/optimizers/adamw.h"

namespace snug {
namespace {

void emit_coded(ParameterUpdate& update, const OptimizerSettings& settings, bool root) {
  if (!has_coded_state(update.shape())) {
    emit_adamw(update, settings, "state1", "state2");
    return;
  }
  add_coded_state(update, "state1", "absmax1");
  add_coded_state(update, "state2", "absmax2");
  update.add_scalar("scalar/correction1");
  update.add_scalar("scalar/correction2");
  Attributes attributes = adam_attributes(settings);
  attributes.set("root", std::int64_t{root ? 1 : 0});
  update.emit(Op::adamw_8bit, attributes, settings.weight_decay);
}

void update_root(ParameterUpdate& update, const OptimizerSettings& settings) {
  emit_coded(update, settings, true);
}
void update_bitsandbytes(ParameterUpdate& update, const OptimizerSettings& settings) {
  emit_coded(update, settings, false);
}

}  // namespace

std::span<const OptimizerRule> adamw_8bit_rules() {
  static constexpr std::array kRules{
      OptimizerRule{.name = Optimizer::adamw_8bit,
                    .note = "AdamW with 8-bit moments, the second as its root: closer to fp32 "
                            "than adamw_bnb_8bit at the same bytes",
                    .update = update_root,
                    .scalars = set_adam_corrections},
      OptimizerRule{.name = Optimizer::adamw_bnb_8bit,
                    .note = "AdamW with 8-bit moments in bitsandbytes' format; adamw_8bit is "
                            "closer to fp32 at the same bytes",
                    .update = update_bitsandbytes,
                    .scalars = set_adam_corrections}};
  return kRules;
}

}  // namespace snug
