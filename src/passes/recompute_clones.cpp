#include "passes/recompute_clones.h"

namespace snug {
namespace {

std::size_t at(ValueId id) { return static_cast<std::size_t>(id); }

/// Rebuilds the node list with clones before their first reader in backward.
class Cloner {
 public:
  Cloner(Graph& graph, const std::vector<bool>& keep)
      : graph_(graph),
        keep_(keep),
        old_(std::move(graph.nodes)),
        producer_(keep_.size(), -1),
        clone_(keep_.size(), kNoValue) {
    for (std::size_t n = 0; n < old_.size(); ++n) {
      if (old_[n].phase != Phase::forward) continue;
      for (const ValueId id : old_[n].outputs) producer_[at(id)] = static_cast<std::int32_t>(n);
    }
  }

  void run() {
    graph_.nodes.clear();
    graph_.nodes.reserve(old_.size());
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
      copy.name += kRecomputedSuffix;
      if (exists(copy.base)) copy.base = available(copy.base);
      const ValueId cloned = graph_.add_value(std::move(copy));
      clone_[at(out)] = cloned;
      out = cloned;
    }
    graph_.nodes.push_back(std::move(node));
  }

  Graph& graph_;
  const std::vector<bool>& keep_;
  std::vector<Node> old_;
  std::vector<std::int32_t> producer_;
  std::vector<ValueId> clone_;
};

}  // namespace

ForwardValues::ForwardValues(const Graph& graph)
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

Graph with_clones(Graph graph, const std::vector<bool>& keep) {
  Cloner(graph, keep).run();
  return graph;
}

}  // namespace snug
