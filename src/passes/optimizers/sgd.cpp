// torch.optim.SGD; momentum and nesterov come from optim_args.

#include <array>

#include "core/error.h"
#include "passes/optimizers/rule.h"

namespace snug {
namespace {

constexpr std::array<std::string_view, 2> kArguments = {"momentum", "nesterov"};

void update_sgd(ParameterUpdate& update, const OptimizerSettings& settings) {
  const double momentum = number_argument(settings, "momentum", 0.0, 0.0, 1.0);
  const bool nesterov = switch_argument(settings, "nesterov", false);
  if (momentum == 0.0) {
    if (nesterov) user_error("optim_args: nesterov needs a momentum, such as momentum=0.9.");
    update.emit(Op::sgd, {}, settings.weight_decay);
    return;
  }
  update.add_state("momentum_buffer");
  update.emit(Op::sgd_momentum,
              {{"momentum", momentum}, {"nesterov", std::int64_t{nesterov ? 1 : 0}}},
              settings.weight_decay);
}

}  // namespace

std::span<const OptimizerRule> sgd_rules() {
  static constexpr std::array kRules{OptimizerRule{.name = Optimizer::sgd,
                                                   .note = "SGD; momentum in optim_args",
                                                   .update = update_sgd,
                                                   .arguments = kArguments}};
  return kRules;
}

}  // namespace snug
