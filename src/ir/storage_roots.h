#pragma once
// Whose storage values share, for all values of a graph at once.

#include <vector>

#include "ir/graph.h"

namespace snug {

/// Graph::root of each value, in time linear in the number of values however long the chains are.
std::vector<ValueId> storage_roots(const Graph& graph);

}  // namespace snug
