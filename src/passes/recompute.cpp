#include "passes/recompute.h"

#include <algorithm>
#include <cmath>

#include "ir/op.h"
#include "passes/recompute_clones.h"
#include "passes/recompute_limit.h"

namespace snug {
namespace {

std::size_t at(ValueId id) { return static_cast<std::size_t>(id); }

int layer_count(const Graph& graph) {
  int last = -1;
  for (const Node& node : graph.nodes) last = std::max(last, node.layer);
  return last + 1;
}

bool in_segments(const RecomputeOptions& options) {
  using Policy = RecomputeOptions::Policy;
  return options.policy == Policy::segments || options.policy == Policy::sqrt;
}

/// For each value whether backward may read it as it is.
class KeepRule {
 public:
  KeepRule(const Graph& graph, const RecomputeOptions& options)
      : graph_(graph), options_(options), forward_(graph) {
    if (!in_segments(options)) return;
    const int layers = layer_count(graph);
    const bool root = options.policy == RecomputeOptions::Policy::sqrt;
    output_kept_ = outputs_kept(layers, root ? std::lround(std::sqrt(layers)) : options.number);
  }

  std::vector<bool> kept() {
    std::vector<bool> keep(forward_.producer.size(), true);
    for (std::size_t v = 0; v < keep.size(); ++v) {
      if (forward_.producer[v] >= 0) keep[v] = keeps(static_cast<ValueId>(v));
    }
    if (options_.policy == RecomputeOptions::Policy::cheap) drop_cheap(keep);
    return keep;
  }

 private:
  bool keeps(ValueId id) const {
    const Node& node = graph_.nodes[static_cast<std::size_t>(forward_.producer[at(id)])];
    if (node.layer < 0) return true;
    using Policy = RecomputeOptions::Policy;
    switch (options_.policy) {
      case Policy::off:
      case Policy::cheap:
        return true;
      case Policy::every_block:
        return forward_.crosses_layers[at(id)];
      case Policy::keep_attention:
        return forward_.crosses_layers[at(id)] || node.op == Op::attention;
      case Policy::every:
        return forward_.crosses_layers[at(id)] || (node.layer + 1) % options_.number != 0;
      case Policy::segments:
      case Policy::sqrt:
        return forward_.crosses_layers[at(id)] &&
               output_kept_[static_cast<std::size_t>(node.layer)];
      case Policy::automatic:
      case Policy::limit:
        break;
    }
    internal_error("the planner has not chosen what to recompute");
  }

  /// Drops results of cheap ops whose operands backward holds in any case.
  void drop_cheap(std::vector<bool>& keep) const {
    for (const Node& node : graph_.nodes) {
      if (node.phase != Phase::forward || !op_def(node.op).cheap || node.layer < 0) continue;
      const bool at_hand = std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId in) {
        return !exists(in) || forward_.producer[at(in)] < 0 || !keep[at(in)] ||
               forward_.read_by_backward[at(in)];
      });
      if (!at_hand) continue;
      for (const ValueId out : node.outputs) {
        if (!forward_.crosses_layers[at(out)]) keep[at(out)] = false;
      }
    }
  }

  const Graph& graph_;
  const RecomputeOptions& options_;
  ForwardValues forward_;
  std::vector<bool> output_kept_;  ///< by layer; segments, sqrt
};

Graph run(Graph graph, const RecomputeOptions& options) {
  const Kept kept = options.policy == RecomputeOptions::Policy::limit
                        ? kept_under_limit(graph, options.number)
                        : Kept{KeepRule(graph, options).kept(), in_segments(options)};
  return with_clones(std::move(graph), kept);
}

}  // namespace

Pass recompute_pass(const RecomputeOptions& options) {
  Pass pass{.name = "recompute",
            .needs = {facts::kDifferentiated},
            .gives = {facts::kRecomputed},
            .breaks = {},
            .equality = Equality::exact,
            .run = [options](Graph graph) { return run(std::move(graph), options); }};
  if (options.policy == RecomputeOptions::Policy::off) pass.run = nullptr;
  return pass;
}

bool is_automatic(const RecomputeOptions& options) {
  return options.policy == RecomputeOptions::Policy::automatic;
}

std::optional<std::int64_t> limit_of(const RecomputeOptions& options) {
  if (options.policy != RecomputeOptions::Policy::limit) return std::nullopt;
  return options.number;
}

RecomputeOptions automatic_recompute() { return {RecomputeOptions::Policy::automatic, 0}; }

RecomputeOptions nothing_recomputed() { return {RecomputeOptions::Policy::off, 0}; }

RecomputeOptions recompute_under(std::int64_t bytes) {
  return {RecomputeOptions::Policy::limit, bytes};
}

std::int64_t recomputed_flops(const Graph& graph) {
  std::int64_t flops = 0;
  for (const Node& node : graph.nodes) {
    if (node.outputs.empty()) continue;
    const std::string& name = graph.value(node.outputs.front()).name;
    if (name.find(kRecomputedSuffix) != std::string::npos) flops += cost_of(graph, node).flops;
  }
  return flops;
}

std::int64_t forward_flops(const Graph& graph) {
  std::int64_t flops = 0;
  for (const Node& node : graph.nodes) {
    if (node.phase == Phase::forward) flops += cost_of(graph, node).flops;
    if (node.op != Op::head_loss_grad) continue;
    // One product of hidden states and head, whichever gradients the visit gives.
    const Shape& x = graph.value(node.inputs[0]).type.shape;
    flops += 2 * x.elements() * graph.value(node.inputs[1]).type.shape[0];
  }
  return flops;
}

}  // namespace snug
