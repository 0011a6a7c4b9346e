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

/// What backward may read as forward left it.
struct Kept {
  std::vector<bool> values;  ///< by value
  /// What crosses layers and is not kept is recomputed on its own, before the first layer whose
  /// backward needs it; what else that takes is not read by backward, which recomputes it again.
  /// So one layer's values are alive at a time, and between kept borders the layers' inputs.
  bool nested = false;
};

/// For each layer whether its output is kept when the outputs of all but `segments` layers, the
/// last among them, are recomputed. When a layer's backward begins, the outputs kept before it and
/// those recomputed since the last kept one are alive: the segments' lengths are chosen so that
/// these are fewest at their most, hence fall towards the last layer.
std::vector<bool> outputs_kept(int layers, std::int64_t segments);

/// Makes backward read clones of the forward values that are not kept: their producers are cloned
/// just before their first reader in backward, and what those read in turn.
Graph with_clones(Graph graph, const Kept& kept);

}  // namespace snug
