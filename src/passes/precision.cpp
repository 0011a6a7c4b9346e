#include "passes/precision.h"

#include "ir/op.h"

namespace snug {
namespace {

void retype(Graph& graph) {
  for (const Node& node : graph.nodes) {
    const auto inputs = operand_types(graph, node);
    const auto types = infer_types({node.op, inputs, node.attributes});
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      graph.value(node.outputs[i]).type = types[i];
    }
  }
}

Graph run(Graph graph, const PrecisionOptions& options) {
  if (!options.bf16) return graph;
  for (Parameter& parameter : graph.parameters) {
    Value& weight = graph.value(graph.find(parameter.name));
    weight.type.dtype = DType::bf16;
    parameter.type.dtype = DType::bf16;
    parameter.storage.front().type = weight.type;
    if (parameter.trainable && options.master_weights == MasterWeights::fp32) {
      const TensorType master{DType::f32, weight.type.shape};
      parameter.storage.push_back({"master", "plain", parameter.name + ".master", master});
    }
  }
  for (std::int64_t v = 0; v < graph.value_count(); ++v) {
    Value& value = graph.value(static_cast<ValueId>(v));
    if (value.role == Role::kv_cache) value.type.dtype = DType::bf16;
  }
  retype(graph);
  return graph;
}

}  // namespace

Pass precision_pass(const PrecisionOptions& options) {
  return {.name = "precision",
          .needs = {},
          .gives = {facts::kTyped},
          .breaks = {},
          .equality = options.bf16 ? Equality::changed : Equality::exact,
          .run = [options](Graph graph) { return run(std::move(graph), options); }};
}

DType gradient_dtype(const PrecisionOptions& options) {
  if (options.gradient_dtype == GradientType::fp32 || !options.bf16) return DType::f32;
  return DType::bf16;
}

}  // namespace snug
