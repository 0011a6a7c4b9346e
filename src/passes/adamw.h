#pragma once
// AdamW with torch's semantics, global-norm clipping included.

#include "core/settings.h"
#include "passes/pass.h"

namespace snug {

/// Adds the update of every trainable parameter: global norm and clip coefficient over all
/// gradients, then one `adamw` node a parameter (decay first, decoupled; fp32 moments; numerics:
/// Loshchilov & Hutter 2019 as in torch.optim.AdamW). The update is skipped as a whole when a
/// gradient is not finite. A bf16 weight without master is rounded stochastically by Philox(seed,
/// parameter, draw, element). Gives `optimized`. Needs `gradients_complete`.
Pass adamw_pass(const OptimizerOptions& options, std::int64_t seed);

}  // namespace snug
