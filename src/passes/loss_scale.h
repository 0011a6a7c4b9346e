#pragma once
// fp16's loss scale: gradients come out multiplied by it and are divided before they are used.

#include "passes/pass.h"

namespace snug {

/// After the optimizer: gradients are those of scale * loss (`scalar/loss_weight` carries the
/// scale), so the norm that is reported and clipped by, and the factor updates multiply gradients
/// with, get `scalar/inverse_scale`. A scaled gradient that is not finite makes the norm so, and
/// with it the update is skipped as a whole. Does nothing when `scaled` is false. Needs
/// `gradients_complete` and `optimized`.
Pass loss_scale_pass(bool scaled);

}  // namespace snug
