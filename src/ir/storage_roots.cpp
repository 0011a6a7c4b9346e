#include "ir/storage_roots.h"

namespace snug {

std::vector<ValueId> storage_roots(const Graph& graph) {
  std::vector<ValueId> roots(static_cast<std::size_t>(graph.value_count()), kNoValue);
  for (std::size_t v = 0; v < roots.size(); ++v) {
    auto root = static_cast<ValueId>(v);
    while (!exists(roots[static_cast<std::size_t>(root)])) {
      const ValueId base = graph.value(root).base;
      if (!exists(base)) break;
      root = base;
    }
    if (exists(roots[static_cast<std::size_t>(root)])) root = roots[static_cast<std::size_t>(root)];
    // All on the way have the same root.
    for (auto id = static_cast<ValueId>(v);
         exists(id) && !exists(roots[static_cast<std::size_t>(id)]); id = graph.value(id).base) {
      roots[static_cast<std::size_t>(id)] = root;
    }
  }
  return roots;
}

}  // namespace snug
