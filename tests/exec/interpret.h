#pragma once
// Programs of random_module.h computed without a plan: every value in a vector of its own.

#include <map>
#include <string>
#include <vector>

#include "core/error.h"
#include "ir/op.h"
#include "ir/program.h"

namespace snug {

using Numbers = std::vector<float>;

class Interpreter {
 public:
  /// Values of run and step scope by name; others are inputs of one call.
  std::map<std::string, Numbers> shared;

  /// The program's outputs by name.
  std::map<std::string, Numbers> play(const Graph& graph, const Numbers& x) {
    std::map<ValueId, Numbers> values;
    for (const Node& node : graph.nodes) {
      std::vector<Numbers> inputs;
      for (const ValueId id : node.inputs) inputs.push_back(read(graph, values, id, x));
      values[node.outputs[0]] = compute(node, inputs);
    }
    std::map<std::string, Numbers> outputs;
    for (const ValueId id : graph.outputs) {
      outputs[graph.value(id).name] = values.at(id);
      const Value& root = graph.value(graph.root(id));
      if (root.scope != Scope::call) shared[root.name] = values.at(id);
    }
    return outputs;
  }

 private:
  Numbers read(const Graph& graph, const std::map<ValueId, Numbers>& values, ValueId id,
               const Numbers& x) {
    const auto it = values.find(id);
    if (it != values.end()) return it->second;
    const Value& value = graph.value(id);
    if (value.role == Role::token) return {};
    return value.scope == Scope::call ? x : shared.at(value.name);
  }

  static Numbers compute(const Node& node, std::vector<Numbers>& inputs) {
    Numbers result = inputs[0];
    if (node.op == Op::add) {
      for (std::size_t i = 0; i < result.size(); ++i) result[i] += inputs[1][i];
    } else if (node.op == Op::scale) {
      const auto factor = static_cast<float>(node.attributes.real("factor"));
      for (float& number : result) number *= factor;
    } else {
      check(node.op == Op::copy || node.op == Op::copy_start || node.op == Op::copy_wait,
            "op {} in a random program", op_def(node.op).name);
    }
    return result;
  }
};

}  // namespace snug
