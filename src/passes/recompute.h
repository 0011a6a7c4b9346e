#pragma once
// Recompute (activation checkpointing): values that backward would keep alive are computed again.

#include <cstdint>
#include <optional>

#include "core/settings.h"
#include "passes/pass.h"

namespace snug {

/// Clones the producers of forward values just before their first reader in backward, so that the
/// originals die in forward. Which values backward may still read directly is the policy:
/// everything (off); all but norms and activations whose operands are kept anyway (cheap); only
/// what crosses layers (every_block), the same and attention's results (keep_attention), in one
/// layer of K (every:K, layers K-1, 2K-1, ... are recomputed), what crosses K segments of layers
/// (segments:K; sqrt: K near the root of the number of layers), whose layers' outputs are
/// recomputed first and then each layer on its own, or as much as fits a number of bytes (limit,
/// see recompute_limit.h). Bit-equal to the input graph. Needs `differentiated`; gives
/// `recomputed`: a later merge of equal nodes would undo it. `automatic` must have been resolved
/// before this pass runs.
Pass recompute_pass(const RecomputeOptions& options);

/// Whether the planner is to choose.
bool is_automatic(const RecomputeOptions& options);
/// The byte limit of activations, where there is one.
std::optional<std::int64_t> limit_of(const RecomputeOptions& options);

/// Left to the planner; nothing recomputed; as little as fits a number of bytes.
RecomputeOptions automatic_recompute();
RecomputeOptions nothing_recomputed();
RecomputeOptions recompute_under(std::int64_t bytes);

/// FLOPs of the nodes that recompute added to a graph.
std::int64_t recomputed_flops(const Graph& graph);
/// FLOPs of a graph's forward nodes and of the loss, whose forward is part of its backward visit.
std::int64_t forward_flops(const Graph& graph);

}  // namespace snug
