#include "passes/pass.h"

#include <chrono>

#include "core/error.h"
#include "ir/verify.h"

namespace snug {

std::string_view name_of(Equality equality) {
  switch (equality) {
    case Equality::exact:
      return "exact";
    case Equality::reordered:
      return "reordered";
    case Equality::changed:
      return "changed";
  }
  internal_error("equality class {} has no name", static_cast<int>(equality));
}

namespace {

void verify_after(const Pass& pass, const Graph& graph) {
  try {
    verify_graph(graph);
  } catch (const InternalError& error) {
    internal_error("after pass '{}': {}", pass.name, error.what());
  }
}

}  // namespace

Graph run_passes(Graph graph, const std::vector<Pass>& passes, PipelineTrace* trace) {
  verify_graph(graph);
  if (trace != nullptr && trace->after) trace->after("model", graph);
  for (const Pass& pass : passes) {
    for (const std::string_view fact : pass.needs) {
      check(graph.facts.contains(fact),
            "pass '{}' needs '{}', which no earlier pass gives or a "
            "later one has broken",
            pass.name, fact);
    }
    const auto nodes_before = static_cast<std::int64_t>(graph.nodes.size());
    const auto start = std::chrono::steady_clock::now();
    // A pass that is off has nothing to run, and leaves nothing to verify.
    if (pass.run) graph = pass.run(std::move(graph));
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    for (const std::string_view fact : pass.breaks) graph.facts.erase(std::string(fact));
    graph.facts.insert(pass.gives.begin(), pass.gives.end());
    if (pass.run) verify_after(pass, graph);
    if (trace == nullptr) continue;
    trace->records.push_back({std::string(pass.name), seconds.count(), nodes_before,
                              static_cast<std::int64_t>(graph.nodes.size())});
    if (trace->after) trace->after(pass.name, graph);
  }
  return graph;
}

}  // namespace snug
