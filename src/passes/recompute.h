#pragma once
// Recompute (activation checkpointing): values that backward would keep alive are computed again.

#include "core/settings.h"
#include "passes/pass.h"

namespace snug {

/// Clones the producers of forward values just before their first reader in backward, so that the
/// originals die in forward. Which values backward may still read directly is the policy:
/// everything (off); all but norms and activations whose operands are kept anyway (cheap); only
/// what crosses layers (every_block), the same and attention's results (keep_attention), in one
/// layer of K (every:K, layers K-1, 2K-1, ... are recomputed), or what crosses K segments of layers
/// (segments:K; sqrt: K near the root of the number of layers). Bit-equal to the input graph.
/// Needs `differentiated`; gives `recomputed`: a later merge of equal nodes would undo it.
/// `automatic` and `limit` must have been resolved before this pass runs.
Pass recompute_pass(const RecomputeOptions& options);

/// Whether the planner is to choose.
bool is_automatic(const RecomputeOptions& options);

/// What the planner chooses among for a model of `layers` layers: exact policies from nothing
/// recomputed to the least memory.
std::vector<RecomputeOptions> recompute_candidates(std::int64_t layers);

/// FLOPs of the nodes that recompute added to a graph.
std::int64_t recomputed_flops(const Graph& graph);

}  // namespace snug
