#pragma once
// The end of a step: gradient norm, clipping, gate, and one update a parameter by the rule of
// `optim`. Rules are files of passes/optimizers/.

#include <string_view>

#include "core/function_ref.h"
#include "core/settings.h"
#include "passes/pass.h"

namespace snug {

/// Adds the update of every trainable parameter: global norm and clip coefficient over all
/// gradients, then one update node a parameter. The update is skipped as a whole when a gradient is
/// not finite. A bf16 weight without master is rounded stochastically by Philox(seed, parameter,
/// draw, element). Gives `optimized`. Needs `gradients_complete`. UserError when optim_args hold
/// what the rule does not know.
Pass optimizer_pass(const OptimizerSettings& settings, std::int64_t seed);

/// Sets the scalars that the rule's updates read, of the update numbered `applied` + 1.
using SetScalar = FunctionRef<void(const char* name, float value)>;
void set_update_scalars(const OptimizerSettings& settings, double learning_rate,
                        std::int64_t applied, SetScalar set);

/// What the rule of `optim` is, in a few words for the log; empty for the default rule.
std::string_view optimizer_note(const OptimizerSettings& settings);

}  // namespace snug
