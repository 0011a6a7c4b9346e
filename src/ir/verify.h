#pragma once
// What a legal graph is, as code. Run after every pass, in every build.

#include "ir/graph.h"

namespace snug {

/// Throws InternalError naming the node or value that breaks a rule: arity and types follow the op
/// table; a value is produced once and before its readers; versions alias what they update and
/// their old state is not read afterwards; views stay inside their base; operands of a compute node
/// are in one space; a version keeps its base's scope, space and role.
void verify_graph(const Graph& graph);

}  // namespace snug
