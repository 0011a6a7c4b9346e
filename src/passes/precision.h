#pragma once
// Mixed precision: storage types of weights and activations, and the fp32 master weights.

#include "core/settings.h"
#include "passes/pass.h"

namespace snug {

/// Retypes the plain fp32 loss graph. With `bf16` (or `fp16`) every weight is stored in that type,
/// and so is every activation (their types follow from the weights' by the op table); sums, norms,
/// softmax and loss stay fp32 inside the kernels. Unless `master_weights` is none, a trainable
/// parameter is given a component `master` in fp32, which the optimizer keeps. Gives `typed`.
/// Changes the arithmetic. UserError for what fp16 cannot do: updates without a master (they would
/// be lost in its rounding) and gradients in another type than fp32.
Pass precision_pass(const PrecisionOptions& options);

/// The dtype weights and activations are stored in.
DType stored_dtype(const PrecisionOptions& options);

/// Whether the loss is scaled, so that gradients do not vanish in fp16.
bool needs_loss_scale(const PrecisionOptions& options);

/// The dtype gradients of weights are stored in.
DType gradient_dtype(const PrecisionOptions& options);

}  // namespace snug
