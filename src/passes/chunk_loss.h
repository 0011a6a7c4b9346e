#pragma once
// Chunked loss: the head's logits exist for some rows at a time.

#include "core/settings.h"
#include "passes/pass.h"

namespace snug {

/// Sets `chunk_rows` of the fused head and cross-entropy so that the fp32 logits alive at once stay
/// within `options.chunk` bytes (0: all rows at once). Gradients of the head are summed over
/// chunks: the same sums in another order.
Pass chunk_loss_pass(const LossOptions& options);

}  // namespace snug
