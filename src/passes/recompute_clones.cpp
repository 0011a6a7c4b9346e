#include "passes/recompute_clones.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/error.h"

namespace snug {
namespace {

/// In the names of what is recomputed for a layer's output, and for its backward again.
constexpr std::string_view kFirstSuffix = "/again/first";

std::size_t at(ValueId id) { return static_cast<std::size_t>(id); }

/// Rebuilds the node list with clones before their first reader in backward.
class Cloner {
 public:
  Cloner(Graph& graph, const Kept& kept)
      : graph_(graph),
        keep_(kept.values),
        nested_(kept.nested),
        forward_(graph),
        old_(std::move(graph.nodes)) {}

  void run() {
    graph_.nodes.clear();
    graph_.nodes.reserve(old_.size());
    for (std::size_t n = 0; n < old_.size(); ++n) {
      Node node = old_[n];
      if (node.phase != Phase::forward) {
        const bool enters = n == 0 || old_[n - 1].layer != node.layer;
        if (nested_ && enters) prepare_layer(n);
        for (ValueId& id : node.inputs) id = available(id, backward_);
      }
      graph_.nodes.push_back(std::move(node));
    }
  }

 private:
  /// Clones that read each other: those of backward, or those that give one layer's outputs.
  struct Scope {
    std::map<ValueId, ValueId> clones;
    std::string_view suffix = kRecomputedSuffix;
  };

  bool is_kept(ValueId id) const { return !exists(id) || at(id) >= keep_.size() || keep_[at(id)]; }
  bool is_border(ValueId id) const { return nested_ && forward_.crosses_layers[at(id)]; }
  const Node& producer(ValueId id) const {
    return old_[static_cast<std::size_t>(forward_.producer[at(id)])];
  }

  /// Recomputes the borders that backward's nodes of the layer entered at `begin` will need, before
  /// any of them runs and has results that would be alive meanwhile.
  void prepare_layer(std::size_t begin) {
    std::set<ValueId> seen;
    for (std::size_t n = begin; n < old_.size() && old_[n].layer == old_[begin].layer; ++n) {
      for (const ValueId id : old_[n].inputs) prepare(id, seen);
    }
  }

  void prepare(ValueId id, std::set<ValueId>& seen) {
    if (is_kept(id) || backward_.clones.contains(id) || !seen.insert(id).second) return;
    if (is_border(id)) {
      available(id, backward_);
      return;
    }
    for (const ValueId in : producer(id).inputs) prepare(in, seen);
  }

  /// The value that a clone of `scope`, or a node of backward, reads instead of `id`: itself when
  /// kept, else its clone.
  ValueId available(ValueId id, Scope& scope) {
    if (is_kept(id)) return id;
    const bool border = is_border(id);
    Scope& holder = border ? borders_ : scope;
    if (!holder.clones.contains(id)) {
      const Node& node = producer(id);
      clone(node, border ? outputs_.try_emplace(node.layer, Scope{{}, kFirstSuffix}).first->second
                         : scope);
    }
    return holder.clones.at(id);
  }

  void clone(Node node, Scope& scope) {
    node.phase = Phase::backward;
    for (ValueId& id : node.inputs) id = available(id, scope);
    for (ValueId& out : node.outputs) {
      Value copy = graph_.value(out);
      Scope& holder = is_border(out) && !borders_.clones.contains(out) ? borders_ : scope;
      copy.name = graph_.fresh_name(fmt::format("{}{}", copy.name, holder.suffix));
      if (exists(copy.base)) copy.base = available(copy.base, scope);
      const ValueId cloned = graph_.add_value(std::move(copy));
      holder.clones[out] = cloned;
      out = cloned;
    }
    graph_.nodes.push_back(std::move(node));
  }

  Graph& graph_;
  const std::vector<bool>& keep_;
  bool nested_;
  ForwardValues forward_;
  std::vector<Node> old_;
  Scope backward_;
  Scope borders_;
  std::map<int, Scope> outputs_;  ///< by layer
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

std::vector<bool> outputs_kept(int layers, std::int64_t segments) {
  const auto count = static_cast<int>(std::clamp<std::int64_t>(segments, 1, std::max(1, layers)));
  // Segment j begins with j + 1 kept inputs: with at most `most` alive it has most - j layers.
  int most = count;
  while (count * most - count * (count - 1) / 2 < layers) ++most;
  std::vector<int> lengths(static_cast<std::size_t>(count), 1);
  for (int left = layers - count; left > 0; --left) {
    int* shortest = nullptr;
    for (int j = 0; j < count; ++j) {
      int& length = lengths[static_cast<std::size_t>(j)];
      if (length < most - j && (!shortest || length < *shortest)) shortest = &length;
    }
    ++*shortest;
  }
  std::vector<bool> kept;
  for (const int length : lengths) {
    kept.insert(kept.end(), static_cast<std::size_t>(length) - 1, false);
    kept.push_back(true);
  }
  return kept;
}

Graph with_clones(Graph graph, const Kept& kept) {
  Cloner(graph, kept).run();
  return graph;
}

}  // namespace snug
