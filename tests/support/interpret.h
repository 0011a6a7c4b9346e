#pragma once
// Runs a graph on the reference kernels, storage shared as liveness allows.

#include <cstring>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/reference/elements.h"
#include "backend/reference/reference.h"
#include "ir/builder.h"
#include "ir/liveness.h"
#include "ir/verify.h"

namespace snug::test {

/// Storage starts as NaN bytes, so that what no kernel writes is seen. Inputs that the graph
/// updates in place must be set again before another run. The graph must outlive it.
class Interpreter {
 public:
  explicit Interpreter(const Graph& graph) : graph_(graph), live_(analyse_liveness(graph)) {
    verify_graph(graph);
    for (const StorageInterval& interval : live_.intervals) {
      storage_.emplace_back(static_cast<std::size_t>(interval.bytes + 8), std::byte{0xFF});
    }
  }

  void set(std::string_view name, std::span<const double> values) {
    const ValueId id = graph_.find(name);
    if (!exists(id) || live_.interval_of[index(id)] < 0) return;  // nothing reads it
    const reference::Elements to(operand(id));
    check(to.size() == static_cast<std::int64_t>(values.size()), "{} has {} elements, not {}", name,
          to.size(), values.size());
    for (std::int64_t i = 0; i < to.size(); ++i) to.set(i, values[static_cast<std::size_t>(i)]);
  }

  void run() {
    for (const Node& node : graph_.nodes) {
      if (!op_def(node.op).view) run(node);
    }
  }

  /// An output of the graph, or an input that no version replaced.
  std::vector<double> get(std::string_view name) const {
    const ValueId id = graph_.find(name);
    check(exists(id), "no value '{}'", name);
    const reference::Elements from(operand(id));
    std::vector<double> values;
    for (std::int64_t i = 0; i < from.size(); ++i) values.push_back(from[i]);
    return values;
  }

 private:
  static std::size_t index(ValueId id) { return static_cast<std::size_t>(id); }

  Operand operand(ValueId id) const {
    if (!exists(id)) return {.data = nullptr, .layout = {.type = {}, .present = false}};
    auto& bytes = storage_[static_cast<std::size_t>(live_.interval_of[index(id)])];
    return {const_cast<std::byte*>(bytes.data()) + graph_.byte_offset(id),
            {graph_.value(id).type, graph_.row_stride(id)}};
  }

  void run(const Node& node) {
    std::vector<Operand> inputs;
    std::vector<Operand> outputs;
    std::vector<OperandLayout> in_layouts;
    std::vector<OperandLayout> out_layouts;
    for (const ValueId id : node.inputs)
      in_layouts.push_back(inputs.emplace_back(operand(id)).layout);
    for (const ValueId id : node.outputs) {
      out_layouts.push_back(outputs.emplace_back(operand(id)).layout);
    }
    const auto kernels = backend_.kernels(node.op);
    check(!kernels.empty(), "no reference kernel for '{}'", op_def(node.op).name);
    const Kernel& kernel = *kernels.front();
    const KernelQuery query{node.op, node.attributes, in_layouts, out_layouts, target_};
    const std::int64_t granted = kernel.grant == nullptr ? 0 : kernel.grant(query);
    std::vector<double> scratch(static_cast<std::size_t>(granted / 8), 0.0);
    kernel.run({node.attributes, inputs, outputs, std::as_writable_bytes(std::span(scratch)),
                nullptr, pool_});
  }

  const Graph& graph_;
  Liveness live_;
  ReferenceBackend backend_;
  Target target_{.backend = "reference", .libraries = {}};
  ThreadPool pool_{1};
  std::vector<std::vector<std::byte>> storage_;
};

/// Replaces every op that has a definition by it. Results keep their names.
inline Graph expand_definitions(Graph graph) {
  std::vector<Node> old = std::move(graph.nodes);
  graph.nodes.clear();
  Builder builder(graph);
  std::map<ValueId, ValueId> replaced;
  for (Node& node : old) {
    for (ValueId& id : node.inputs) {
      if (const auto it = replaced.find(id); it != replaced.end()) id = it->second;
    }
    if (op_def(node.op).definition == nullptr) {
      graph.nodes.push_back(node);
      continue;
    }
    builder.set_layer(node.layer);
    builder.set_phase(node.phase);
    const std::vector<ValueId> results = op_def(node.op).definition(builder, node);
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      const ValueId from = node.outputs[i];
      const std::string name = graph.value(from).name;
      graph.replace_uses(from, results[i]);
      graph.rename_value(from, graph.fresh_name(name + ".fused"));
      graph.rename_value(results[i], name);
      replaced[from] = results[i];
    }
  }
  graph.remove_dead();
  return graph;
}

}  // namespace snug::test
