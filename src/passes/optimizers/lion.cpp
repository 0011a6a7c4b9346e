// Lion (Chen et al., arXiv 2302.06675) with an fp32 or an 8-bit moment, adam_beta1 and adam_beta2
// as its betas, as transformers' Trainer passes them.

#include <array>

#include "passes/optimizers/rule.h"

namespace snug {
namespace {

Attributes attributes_of(const OptimizerSettings& settings) {
  return {{"beta1", settings.adam_beta1}, {"beta2", settings.adam_beta2}};
}

void update_lion(ParameterUpdate& update, const OptimizerSettings& settings) {
  update.add_state("state1");
  update.emit(Op::lion, attributes_of(settings), settings.weight_decay);
}

void update_lion_8bit(ParameterUpdate& update, const OptimizerSettings& settings) {
  if (!has_coded_state(update.shape())) {
    update_lion(update, settings);
    return;
  }
  add_coded_state(update, "state1", "absmax1");
  update.emit(Op::lion_8bit, attributes_of(settings), settings.weight_decay);
}

}  // namespace

std::span<const OptimizerRule> lion_rules() {
  static constexpr std::array kRules{
      OptimizerRule{.name = Optimizer::lion_32bit,
                    .note = "Lion; it wants a learning rate 3 to 10 times below AdamW's",
                    .update = update_lion},
      OptimizerRule{.name = Optimizer::lion_8bit,
                    .note = "Lion with an 8-bit moment; it wants a learning rate 3 to 10 times "
                            "below AdamW's",
                    .update = update_lion_8bit}};
  return kRules;
}

}  // namespace snug
