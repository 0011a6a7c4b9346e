#include "passes/recompute.h"

#include <algorithm>
#include <cmath>

#include "ir/op.h"

namespace snug {
namespace {

std::size_t at(ValueId id) { return static_cast<std::size_t>(id); }

constexpr std::string_view kSuffix = "/again";

int layer_count(const Graph& graph) {
  int last = -1;
  for (const Node& node : graph.nodes) last = std::max(last, node.layer);
  return last + 1;
}

/// Forward values by producer, and who reads them.
struct ForwardValues {
  explicit ForwardValues(const Graph& graph)
      : producer(static_cast<std::size_t>(graph.value_count()), -1),
        read_by_backward(producer.size(), false),
        crosses_layers(producer.size(), false) {
    for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
      const Node& node = graph.nodes[n];
      const bool forward = node.phase == Phase::forward;
      for (const ValueId id : node.inputs) {
        if (!exists(id) || producer[at(id)] < 0) continue;
        const Node& made_by = graph.nodes[static_cast<std::size_t>(producer[at(id)])];
        if (!forward) read_by_backward[at(id)] = true;
        if (forward && made_by.layer != node.layer) crosses_layers[at(id)] = true;
      }
      if (!forward) continue;
      for (const ValueId id : node.outputs) producer[at(id)] = static_cast<std::int32_t>(n);
    }
  }
  std::vector<std::int32_t> producer;  ///< forward node; -1 for inputs and backward's values
  std::vector<bool> read_by_backward;
  std::vector<bool> crosses_layers;
};

/// For each value whether backward may read it as it is.
class KeepRule {
 public:
  KeepRule(const Graph& graph, const RecomputeOptions& options)
      : graph_(graph), options_(options), forward_(graph), layers_(layer_count(graph)) {}

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
        return ends_segment(id, node.layer, options_.number);
      case Policy::sqrt:
        return ends_segment(id, node.layer, std::lround(std::sqrt(layers_)));
      case Policy::automatic:
      case Policy::limit:
        break;
    }
    internal_error("the planner has not chosen what to recompute");
  }

  bool ends_segment(ValueId id, int layer, std::int64_t segments) const {
    const std::int64_t count = std::clamp<std::int64_t>(segments, 1, layers_);
    const auto segment = [&](int l) { return l * count / layers_; };
    return forward_.crosses_layers[at(id)] &&
           (layer + 1 == layers_ || segment(layer) != segment(layer + 1));
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
  int layers_;
};

/// Rebuilds the node list with clones before their first reader in backward.
class Cloner {
 public:
  Cloner(Graph& graph, std::vector<bool> keep)
      : graph_(graph),
        keep_(std::move(keep)),
        old_(std::move(graph.nodes)),
        producer_(keep_.size(), -1),
        clone_(keep_.size(), kNoValue) {
    for (std::size_t n = 0; n < old_.size(); ++n) {
      if (old_[n].phase != Phase::forward) continue;
      for (const ValueId id : old_[n].outputs) producer_[at(id)] = static_cast<std::int32_t>(n);
    }
  }

  void run() {
    for (const Node& original : old_) {
      Node node = original;
      if (node.phase != Phase::forward) {
        for (ValueId& id : node.inputs) id = available(id);
      }
      graph_.nodes.push_back(std::move(node));
    }
  }

 private:
  /// The value a backward node reads instead of `id`: itself when kept, else its clone.
  ValueId available(ValueId id) {
    if (!exists(id) || at(id) >= keep_.size() || keep_[at(id)]) return id;
    if (!exists(clone_[at(id)])) clone(static_cast<std::size_t>(producer_[at(id)]));
    return clone_[at(id)];
  }

  void clone(std::size_t position) {
    Node node = old_[position];
    node.phase = Phase::backward;
    for (ValueId& id : node.inputs) id = available(id);
    for (ValueId& out : node.outputs) {
      Value copy = graph_.value(out);
      copy.name += kSuffix;
      if (exists(copy.base)) copy.base = available(copy.base);
      const ValueId cloned = graph_.add_value(std::move(copy));
      clone_[at(out)] = cloned;
      out = cloned;
    }
    graph_.nodes.push_back(std::move(node));
  }

  Graph& graph_;
  std::vector<bool> keep_;
  std::vector<Node> old_;
  std::vector<std::int32_t> producer_;
  std::vector<ValueId> clone_;
};

Graph run(Graph graph, const RecomputeOptions& options) {
  if (options.policy == RecomputeOptions::Policy::off) return graph;
  std::vector<bool> keep = KeepRule(graph, options).kept();
  Cloner(graph, std::move(keep)).run();
  return graph;
}

}  // namespace

Pass recompute_pass(const RecomputeOptions& options) {
  return {.name = "recompute",
          .needs = {facts::kDifferentiated},
          .gives = {facts::kRecomputed},
          .breaks = {},
          .equality = Equality::exact,
          .run = [options](Graph graph) { return run(std::move(graph), options); }};
}

bool is_automatic(const RecomputeOptions& options) {
  return options.policy == RecomputeOptions::Policy::automatic;
}

std::vector<RecomputeOptions> recompute_candidates(std::int64_t layers) {
  using Policy = RecomputeOptions::Policy;
  std::vector<RecomputeOptions> candidates = {{Policy::off, 0}, {Policy::cheap, 0}};
  for (std::int64_t k = std::min<std::int64_t>(layers, 4); k >= 2; --k) {
    candidates.push_back({Policy::every, k});
  }
  candidates.push_back({Policy::keep_attention, 0});
  candidates.push_back({Policy::every_block, 0});
  if (layers >= 4) candidates.push_back({Policy::sqrt, 0});
  return candidates;
}

std::int64_t recomputed_flops(const Graph& graph) {
  std::int64_t flops = 0;
  for (const Node& node : graph.nodes) {
    if (!node.outputs.empty() && graph.value(node.outputs.front()).name.ends_with(kSuffix)) {
      flops += cost_of(graph, node).flops;
    }
  }
  return flops;
}

}  // namespace snug
