#pragma once
// Whose storage values share, for all values of a graph at once.

#include <cstdint>
#include <vector>

#include "ir/graph.h"

namespace snug {

/// Graph::root of each value, in time linear in the number of values however long the chains are.
std::vector<ValueId> storage_roots(const Graph& graph);

/// Graph::byte_offset of each value, likewise.
std::vector<std::int64_t> storage_offsets(const Graph& graph);

}  // namespace snug
