#include "ir/graph.h"

#include <algorithm>
#include <optional>

#include "core/error.h"

namespace snug {

ValueId Graph::add_value(Value value) {
  const auto id = static_cast<ValueId>(values_.size());
  const bool added = by_name_.emplace(value.name, id).second;
  check(added, "graph '{}' has two values named '{}'", name_, value.name);
  values_.push_back(std::move(value));
  return id;
}

ValueId Graph::find(std::string_view name) const {
  const auto it = by_name_.find(std::string(name));
  return it == by_name_.end() ? kNoValue : it->second;
}

std::string Graph::fresh_name(std::string_view name) const {
  std::string candidate(name);
  for (int n = 2; exists(find(candidate)); ++n) candidate = fmt::format("{}.{}", name, n);
  return candidate;
}

void Graph::rename_value(ValueId id, std::string name) {
  by_name_.erase(value(id).name);
  check(by_name_.emplace(name, id).second, "graph '{}' has two values named '{}'", name_, name);
  value(id).name = std::move(name);
}

ValueId Graph::root(ValueId id) const {
  while (exists(value(id).base)) id = value(id).base;
  return id;
}

std::int64_t Graph::row_stride(ValueId id) const {
  const Value& v = value(id);
  if (v.row_stride != 0) return v.row_stride;
  return v.type.shape.rank() == 0
             ? 1
             : v.type.shape.elements() / std::max<std::int64_t>(1, v.type.shape[0]);
}

std::int64_t Graph::byte_offset(ValueId id) const {
  std::int64_t bytes = 0;
  for (; exists(value(id).base); id = value(id).base) {
    bytes += value(id).offset * size_of(value(value(id).base).type.dtype);
  }
  return bytes;
}

std::vector<std::int32_t> Graph::producers() const {
  std::vector<std::int32_t> result(values_.size(), -1);
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    for (const ValueId out : nodes[n].outputs) {
      if (exists(out)) result[index(out)] = static_cast<std::int32_t>(n);
    }
  }
  return result;
}

std::vector<std::int32_t> Graph::last_uses() const {
  std::vector<std::int32_t> result(values_.size(), -1);
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    for (const auto* operands : {&nodes[n].inputs, &nodes[n].outputs}) {
      for (const ValueId id : *operands) {
        if (exists(id)) result[index(id)] = static_cast<std::int32_t>(n);
      }
    }
  }
  return result;
}

void Graph::replace_uses(ValueId from, ValueId to) {
  for (Node& node : nodes) std::replace(node.inputs.begin(), node.inputs.end(), from, to);
  std::replace(outputs.begin(), outputs.end(), from, to);
  for (Value& v : values_) {
    if (v.base == from) v.base = to;
  }
}

void Graph::remove_dead() {
  std::vector<bool> wanted(values_.size(), false);
  const auto want = [&](ValueId id) {
    for (; exists(id) && !wanted[index(id)]; id = value(id).base) wanted[index(id)] = true;
  };
  for (const ValueId id : outputs) want(id);
  std::vector<bool> keep(nodes.size(), false);
  for (std::size_t n = nodes.size(); n-- > 0;) {
    const Node& node = nodes[n];
    keep[n] = std::any_of(node.outputs.begin(), node.outputs.end(),
                          [&](ValueId id) { return exists(id) && wanted[index(id)]; });
    if (!keep[n]) continue;
    for (const ValueId id : node.inputs) want(id);
    for (const ValueId id : node.outputs) want(id);
  }
  std::vector<ValueId> renumbered(values_.size(), kNoValue);
  std::vector<Value> values;
  values.reserve(static_cast<std::size_t>(std::count(wanted.begin(), wanted.end(), true)));
  for (std::size_t v = 0; v < values_.size(); ++v) {
    if (!wanted[v]) {
      by_name_.erase(values_[v].name);
      continue;
    }
    renumbered[v] = static_cast<ValueId>(values.size());
    values.push_back(std::move(values_[v]));
  }
  for (auto& [name, id] : by_name_) id = renumbered[index(id)];
  values_ = std::move(values);
  const auto renumber = [&](ValueId& id) {
    if (exists(id)) id = renumbered[index(id)];
  };
  for (Value& v : values_) renumber(v.base);
  std::vector<Node> kept;
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    if (!keep[n]) continue;
    for (ValueId& id : nodes[n].inputs) renumber(id);
    for (ValueId& id : nodes[n].outputs) renumber(id);
    kept.push_back(std::move(nodes[n]));
  }
  nodes = std::move(kept);
  for (ValueId& id : outputs) renumber(id);
}

}  // namespace snug
