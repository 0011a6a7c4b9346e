#pragma once
// Time by nominal rates. It orders choices; nothing is promised by it.

#include "ir/op.h"

namespace snug {

/// Seconds of a node on one core's nominal rates: 200 GFLOP/s or 20 GB/s, whichever binds.
double nominal_seconds(const OpCost& cost);

/// The same for all nodes of a graph.
double nominal_seconds(const Graph& graph);

}  // namespace snug
