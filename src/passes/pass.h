#pragma once
// What a pass is, and the pipeline that runs passes in order with one wrapper: facts checked, time
// taken, graph verified and dumped after each. A pass whose options say "off" returns its graph.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/graph.h"

namespace snug {

/// What a pass does to results. Tests hold it to that.
enum class Equality : std::uint8_t {
  exact,      ///< bit-equal
  reordered,  ///< the same real-number sums in another order
  changed,    ///< other arithmetic
};

std::string_view name_of(Equality equality);

/// A pass is a pure function on graphs and its contract.
struct Pass {
  std::string_view name;
  std::vector<std::string_view> needs = {};   ///< facts that must hold before
  std::vector<std::string_view> gives = {};   ///< facts that hold after
  std::vector<std::string_view> breaks = {};  ///< facts that no longer hold after
  Equality equality = Equality::exact;
  std::function<Graph(Graph)> run;
};

/// What the pipeline recorded of one pass.
struct PassRecord {
  std::string name;
  double seconds = 0;
  std::int64_t nodes_before = 0;
  std::int64_t nodes_after = 0;
};

/// Observes a compile. `after` is called with the graph after each pass (and with "model" for the
/// graph the model built).
struct PipelineTrace {
  std::vector<PassRecord> records;
  std::function<void(std::string_view pass, const Graph& graph)> after;
};

/// Runs the passes in order. A pass whose needs are unmet, or that breaks a fact a later pass
/// needs, is an InternalError naming both. `trace` may be nullptr.
Graph run_passes(Graph graph, const std::vector<Pass>& passes, PipelineTrace* trace);

}  // namespace snug
