#pragma once
// The MLP in tiles of rows: gate, up and activation exist for one tile at a time.

#include "core/settings.h"
#include "passes/pass.h"

namespace snug {

/// In each layer's forward, its backward and the recomputation of its output, the nodes around
/// `silu_mul` and `silu_mul_grad` whose operands are as wide as the MLP's inner size are run
/// `count` times on rows of their own: in forward where backward does not read their results (it
/// computes them again), and in backward together with their recomputation. Weight gradients add up
/// over the tiles; each addition into a bf16 gradient is rounded stochastically. A layer whose
/// nodes cannot be brought together is left as it is. Comes after recompute, since what is kept for
/// backward is kept whole. Reorders the weight gradients' sums; all else keeps its bits.
Pass mlp_chunks_pass(const MlpChunkOptions& options, std::int64_t seed);

}  // namespace snug
