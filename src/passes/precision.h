#pragma once
// Mixed precision: storage types of weights and activations, and the fp32 master weights.

#include "core/settings.h"
#include "passes/pass.h"

namespace snug {

/// Retypes the plain fp32 loss graph. With `bf16` every weight is stored in bf16, and so is every
/// activation (their types follow from the weights' by the op table); sums, norms, softmax and loss
/// stay fp32 inside the kernels. Unless `master_weights` is none, a trainable
/// parameter is given a component `master` in fp32, which the optimizer keeps. Gives `typed`.
/// Changes the arithmetic.
Pass precision_pass(const PrecisionOptions& options);

/// The dtype gradients of weights are stored in.
DType gradient_dtype(const PrecisionOptions& options);

}  // namespace snug
