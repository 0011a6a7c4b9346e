#pragma once
// Chunked loss: the head's logits exist in tiles of rows and classes.

#include "core/settings.h"
#include "passes/pass.h"

namespace snug {

/// Sets `chunk_rows` and `chunk_columns` of the fused head and cross-entropy so that the fp32
/// logits alive at once stay within `options.chunk` bytes (0: all at once), and so do the sums of
/// the rows' gradient. Gradients are summed over tiles: the same sums in another order. A limit
/// below 16 rows by 64 classes counts as that.
Pass chunk_loss_pass(const LossOptions& options);

}  // namespace snug
