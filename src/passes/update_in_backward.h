#pragma once
// Updates move into backward, so that gradients of about one layer exist at a time.

#include <cstdint>
#include <string>

#include "core/settings.h"
#include "passes/pass.h"

namespace snug {

/// Moves each update to right behind the last node that reads the weight or adds to its gradient
/// (all uses of a tied weight are done then). What was computed over all gradients is no longer
/// known before the first update, so each gradient is checked for itself: a tensor whose gradient
/// is not finite is left as it was, and the norm of the step is that of the tensors' norms.
/// Bit-equal to the updates at the end. Needs `optimized`, no clipping, and one micro-batch a step
/// (see why_no_update_in_backward). Breaks `gradients_complete`.
Pass update_in_backward_pass(const UpdateInBackwardOptions& options);

/// Why these settings with so many micro-batches a step exclude the technique; empty when they do
/// not, or when it is off.
std::string why_no_update_in_backward(const Settings& settings, std::int64_t accumulation);

}  // namespace snug
