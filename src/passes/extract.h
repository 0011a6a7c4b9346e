#pragma once
// Cuts a graph into programs.

#include <functional>
#include <string>

#include "ir/graph.h"

namespace snug {

/// The nodes for which `wanted` holds, as a graph of their own. Storage that comes from outside
/// becomes an input under its root's name (so that programs share it); results that later nodes of
/// `graph` or its caller read become outputs.
Graph extract_program(const Graph& graph, std::string name,
                      const std::function<bool(const Node&)>& wanted);

}  // namespace snug
