#pragma once
// Of what could be trained, all the model's parameters or its adapters', the part that is.

#include <string>

#include "core/settings.h"
#include "passes/pass.h"

namespace snug {

/// Trainable parameters that settings do not choose are so no longer. With `by_layer` the choice is
/// `options.layers`, `modules` and `extra_modules`, else `options.unfrozen` (all where it is
/// empty); with both, either. UserError when a pattern is malformed or finds nothing, or nothing is
/// chosen.
Pass freeze_pass(const FreezeOptions& options, bool by_layer);

/// What is said of a run beside what it trains: ` (only layers)`; empty when that is all.
std::string describe_unfrozen(const FreezeOptions& options);

}  // namespace snug
