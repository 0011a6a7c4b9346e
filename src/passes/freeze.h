#pragma once
// What is trained when no adapters are: all parameters, or those that settings choose.

#include "core/settings.h"
#include "passes/pass.h"

namespace snug {

/// Parameters that settings do not choose become not trainable. With `by_layer` the choice is
/// `options.layers`, `modules` and `extra_modules`, else `options.unfrozen` (all where it is
/// empty); with both, either. UserError when a pattern is malformed or finds nothing, or nothing is
/// chosen.
Pass freeze_pass(const FreezeOptions& options, bool by_layer);

}  // namespace snug
