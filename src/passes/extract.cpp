#include "passes/extract.h"

#include <algorithm>

#include "ir/storage_roots.h"

namespace snug {
namespace {

std::size_t at(ValueId id) { return static_cast<std::size_t>(id); }

class Extraction {
 public:
  Extraction(const Graph& source, std::string name)
      : source_(source),
        result_(std::move(name)),
        mapped_(static_cast<std::size_t>(source.value_count()), kNoValue),
        roots_(storage_roots(source)) {}

  Graph run(const std::function<bool(const Node&)>& wanted) {
    std::vector<bool> made_here(mapped_.size(), false);
    for (const Node& node : source_.nodes) {
      if (!wanted(node)) continue;
      for (const ValueId id : node.outputs) made_here[at(id)] = true;
    }
    for (const Node& node : source_.nodes) {
      if (!wanted(node)) continue;
      Node copy = node;
      for (ValueId& id : copy.inputs) {
        if (exists(id)) id = made_here[at(id)] ? import(id) : outside(id);
      }
      for (ValueId& id : copy.outputs) id = import(id);
      result_.nodes.push_back(std::move(copy));
    }
    add_outputs(wanted, made_here);
    result_.parameters = source_.parameters;
    result_.facts = source_.facts;
    return std::move(result_);
  }

 private:
  /// A value made here; its base is made here too or comes from outside.
  ValueId import(ValueId id) {
    if (exists(mapped_[at(id)])) return mapped_[at(id)];
    Value value = source_.value(id);
    if (exists(value.base)) {
      const ValueId base = value.base;
      value.base = exists(mapped_[at(base)]) ? mapped_[at(base)] : outside(base);
    }
    return mapped_[at(id)] = result_.add_value(std::move(value));
  }

  /// A value made elsewhere: from then on it goes by its root.
  ValueId outside(ValueId id) {
    if (exists(mapped_[at(id)])) return mapped_[at(id)];
    const ValueId root = roots_[at(id)];
    const ValueId known = result_.find(source_.value(root).name);
    if (exists(known)) return mapped_[at(id)] = known;
    check(source_.value(id).type == source_.value(root).type,
          "%{} is a view that another program made", source_.value(id).name);
    Value value = source_.value(root);
    return mapped_[at(id)] = mapped_[at(root)] = result_.add_value(std::move(value));
  }

  void add_outputs(const std::function<bool(const Node&)>& wanted,
                   const std::vector<bool>& made_here) {
    std::vector<bool> out(mapped_.size(), false);
    for (const ValueId id : source_.outputs) out[at(id)] = made_here[at(id)];
    for (const Node& node : source_.nodes) {
      if (wanted(node)) continue;
      for (const ValueId id : node.inputs) {
        if (exists(id) && made_here[at(id)]) out[at(id)] = true;
      }
    }
    for (std::size_t v = 0; v < out.size(); ++v) {
      if (out[v]) result_.outputs.push_back(mapped_[v]);
    }
  }

  const Graph& source_;
  Graph result_;
  std::vector<ValueId> mapped_;
  std::vector<ValueId> roots_;
};

}  // namespace

Graph extract_program(const Graph& graph, std::string name,
                      const std::function<bool(const Node&)>& wanted) {
  return Extraction(graph, std::move(name)).run(wanted);
}

}  // namespace snug
