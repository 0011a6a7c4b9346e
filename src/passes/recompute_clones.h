#pragma once
// The rewrite that recomputation is: producers cloned before their readers in backward.

#include <cstdint>
#include <string_view>
#include <vector>

#include "ir/graph.h"

namespace snug {

/// In the names of recomputed values, behind those of the originals.
inline constexpr std::string_view kRecomputedSuffix = "/again";

/// What is known of forward values, by value.
struct ForwardValues {
  explicit ForwardValues(const Graph& graph);
  std::vector<std::int32_t> producer;  ///< forward node; -1 for inputs and backward's values
  std::vector<bool> read_by_backward;
  std::vector<bool> crosses_layers;  ///< a forward node of another layer reads it
};

/// Makes backward read clones of the forward values that are not in `keep` (by value): their
/// producers are cloned just before their first reader in backward, and what those read in turn.
Graph with_clones(Graph graph, const std::vector<bool>& keep);

}  // namespace snug
