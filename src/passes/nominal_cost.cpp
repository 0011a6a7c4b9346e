#include "passes/nominal_cost.h"

#include <algorithm>

namespace snug {
namespace {

constexpr double kFlopsPerSecond = 2e11;
constexpr double kBytesPerSecond = 2e10;

}  // namespace

double nominal_seconds(const OpCost& cost) {
  return std::max(static_cast<double>(cost.flops) / kFlopsPerSecond,
                  static_cast<double>(cost.bytes) / kBytesPerSecond);
}

double nominal_seconds(const Graph& graph) {
  double seconds = 0;
  for (const Node& node : graph.nodes) seconds += nominal_seconds(cost_of(graph, node));
  return seconds;
}

}  // namespace snug
