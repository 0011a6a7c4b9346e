#include "ir/storage_roots.h"

namespace snug {
namespace {

std::size_t at(ValueId id) { return static_cast<std::size_t>(id); }

/// Calls visit(value) for every value, bases before what is based on them.
template <class Visit>
void each_after_its_base(const Graph& graph, Visit&& visit) {
  std::vector<bool> seen(static_cast<std::size_t>(graph.value_count()), false);
  std::vector<ValueId> open;
  for (std::size_t v = 0; v < seen.size(); ++v) {
    for (auto id = static_cast<ValueId>(v); exists(id) && !seen[at(id)];
         id = graph.value(id).base) {
      seen[at(id)] = true;
      open.push_back(id);
    }
    for (; !open.empty(); open.pop_back()) visit(open.back());
  }
}

}  // namespace

std::vector<ValueId> storage_roots(const Graph& graph) {
  std::vector<ValueId> roots(static_cast<std::size_t>(graph.value_count()), kNoValue);
  each_after_its_base(graph, [&](ValueId id) {
    const ValueId base = graph.value(id).base;
    roots[at(id)] = exists(base) ? roots[at(base)] : id;
  });
  return roots;
}

std::vector<std::int64_t> storage_offsets(const Graph& graph) {
  std::vector<std::int64_t> offsets(static_cast<std::size_t>(graph.value_count()), 0);
  each_after_its_base(graph, [&](ValueId id) {
    const Value& value = graph.value(id);
    if (!exists(value.base)) return;
    offsets[at(id)] =
        offsets[at(value.base)] + value.offset * size_of(graph.value(value.base).type.dtype);
  });
  return offsets;
}

}  // namespace snug
