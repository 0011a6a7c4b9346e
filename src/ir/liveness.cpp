#include "ir/liveness.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "ir/op.h"
#include "ir/storage_roots.h"

namespace snug {
namespace {

std::size_t at(ValueId id) { return static_cast<std::size_t>(id); }

/// Union of values into storage groups, with the interval of each group kept on its leader.
class Groups {
 public:
  explicit Groups(const Graph& graph) : leader_(static_cast<std::size_t>(graph.value_count())) {
    std::iota(leader_.begin(), leader_.end(), std::size_t{0});
    intervals_.resize(leader_.size());
    used_.resize(leader_.size(), false);
    for (std::size_t v = 0; v < leader_.size(); ++v) {
      const auto id = static_cast<ValueId>(v);
      const Value& value = graph.value(id);
      intervals_[v] = {id,
                       extent(value),
                       value.space,
                       value.scope,
                       static_cast<std::int32_t>(graph.nodes.size()),
                       -1};
    }
    for (std::size_t v = 0; v < leader_.size(); ++v) {
      const ValueId base = graph.value(static_cast<ValueId>(v)).base;
      if (exists(base)) join(at(base), v);
    }
  }

  std::size_t find(std::size_t v) {
    while (leader_[v] != v) v = leader_[v] = leader_[leader_[v]];
    return v;
  }

  void join(std::size_t keep, std::size_t other) {
    keep = find(keep);
    other = find(other);
    if (keep == other) return;
    leader_[other] = keep;
    StorageInterval& to = intervals_[keep];
    const StorageInterval& from = intervals_[other];
    to.begin = std::min(to.begin, from.begin);
    to.end = std::max(to.end, from.end);
    // A view's extent lies within its base; results that take an operand's place are as large.
    to.bytes = std::max(to.bytes, from.bytes);
    used_[keep] = used_[keep] || used_[other];
  }

  void touch(ValueId id, std::int32_t from, std::int32_t to) {
    const std::size_t group = find(at(id));
    used_[group] = true;
    intervals_[group].begin = std::min(intervals_[group].begin, from);
    intervals_[group].end = std::max(intervals_[group].end, to);
  }

  StorageInterval& interval(ValueId id) { return intervals_[find(at(id))]; }

  Liveness result() {
    Liveness live;
    live.interval_of.assign(leader_.size(), -1);
    std::vector<std::int32_t> slot(leader_.size(), -1);
    for (std::size_t v = 0; v < leader_.size(); ++v) {
      const std::size_t group = find(v);
      if (!used_[group]) continue;
      if (slot[group] < 0) {
        slot[group] = static_cast<std::int32_t>(live.intervals.size());
        live.intervals.push_back(intervals_[group]);
      }
      live.interval_of[v] = slot[group];
    }
    return live;
  }

 private:
  static std::int64_t extent(const Value& value) {
    const Shape& shape = value.type.shape;
    if (value.row_stride == 0 || shape.rank() == 0) return value.type.bytes();
    const std::int64_t row = shape.elements() / std::max<std::int64_t>(1, shape[0]);
    return ((shape[0] - 1) * value.row_stride + row) * size_of(value.type.dtype);
  }

  std::vector<std::size_t> leader_;
  std::vector<StorageInterval> intervals_;
  std::vector<bool> used_;
};

/// For each value an asynchronous copy reads or writes: the node that waits for it.
void hold_until_waited(const Graph& graph, Groups& groups) {
  std::vector<std::int32_t> waited(static_cast<std::size_t>(graph.value_count()), -1);
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    if (graph.nodes[n].op != Op::copy_wait) continue;
    waited[at(graph.nodes[n].inputs[1])] = static_cast<std::int32_t>(n);
  }
  const auto end = static_cast<std::int32_t>(graph.nodes.size());
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    if (node.op != Op::copy_start) continue;
    const std::int32_t wait = waited[at(node.outputs[1])];
    const std::int32_t held = wait < 0 ? end : wait;  // never waited for: to the program's end
    groups.touch(node.inputs[0], static_cast<std::int32_t>(n), held);
    groups.touch(node.outputs[0], static_cast<std::int32_t>(n), held);
  }
}

bool may_take_place(const Graph& graph, Groups& groups, const Node& node, std::int32_t position,
                    ValueId out, ValueId in) {
  const Value& result = graph.value(out);
  const StorageInterval& source = groups.interval(in);
  if (result.scope != Scope::call || source.scope != Scope::call || source.begin < 0) return false;
  if (source.end != position || source.space != result.space) return false;
  if (source.bytes != result.type.bytes() || graph.value(in).type.bytes() != source.bytes) {
    return false;
  }
  if (graph.row_stride(in) != graph.row_stride(out)) return false;
  // Another operand in the same storage, read at other elements, must not be overwritten.
  return std::count_if(node.inputs.begin(), node.inputs.end(), [&](ValueId other) {
           return exists(other) && &groups.interval(other) == &source;
         }) == 1;
}

/// Results that may take the place of an operand do so when that operand dies at their node.
void share_in_place(const Graph& graph, Groups& groups) {
  std::vector<ValueId> taken;
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    taken.clear();
    for (const Aliasing& alias : op_def(node.op).aliasing) {
      if (alias.must || alias.output >= static_cast<int>(node.outputs.size()) ||
          alias.input >= static_cast<int>(node.inputs.size())) {
        continue;
      }
      const ValueId out = node.outputs[static_cast<std::size_t>(alias.output)];
      const ValueId in = node.inputs[static_cast<std::size_t>(alias.input)];
      if (!exists(out) || !exists(in) || exists(graph.value(out).base)) continue;
      if (std::find(taken.begin(), taken.end(), out) != taken.end()) continue;
      if (!may_take_place(graph, groups, node, static_cast<std::int32_t>(n), out, in)) continue;
      groups.join(at(in), at(out));
      taken.push_back(out);
    }
  }
}

}  // namespace

Liveness analyse_liveness(const Graph& graph) {
  Groups groups(graph);
  const auto end = static_cast<std::int32_t>(graph.nodes.size());
  const std::vector<std::int32_t> producers = graph.producers();
  const std::vector<ValueId> roots = storage_roots(graph);
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const auto position = static_cast<std::int32_t>(n);
    for (const auto* operands : {&graph.nodes[n].inputs, &graph.nodes[n].outputs}) {
      for (const ValueId id : *operands) {
        if (exists(id)) groups.touch(id, position, position);
      }
    }
    for (const ValueId id : graph.nodes[n].inputs) {
      if (exists(id) && producers[at(roots[at(id)])] < 0) groups.touch(id, -1, position);
    }
  }
  for (const ValueId id : graph.outputs) groups.touch(id, producers[at(id)], end);
  hold_until_waited(graph, groups);
  share_in_place(graph, groups);
  Liveness live = groups.result();
  for (StorageInterval& interval : live.intervals) {
    if (interval.scope == Scope::call) continue;
    interval.begin = -1;
    interval.end = end;
  }
  return live;
}

}  // namespace snug
