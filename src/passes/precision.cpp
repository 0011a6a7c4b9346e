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
  const DType stored = stored_dtype(options);
  if (stored == DType::f32) return graph;
  for (Parameter& parameter : graph.parameters) {
    if (parameter.keep_fp32) continue;
    Value& weight = graph.value(graph.find(parameter.name));
    weight.type.dtype = stored;
    if (parameter.owner != Owner::adapter) parameter.type.dtype = stored;
    parameter.storage.front().type = weight.type;
    if (parameter.trainable && options.master_weights == MasterWeights::fp32) {
      const TensorType master{DType::f32, weight.type.shape};
      parameter.storage.push_back({"master", "plain", parameter.name + ".master", master});
    }
  }
  for (std::int64_t v = 0; v < graph.value_count(); ++v) {
    Value& value = graph.value(static_cast<ValueId>(v));
    if (value.role == Role::kv_cache) value.type.dtype = stored;
  }
  retype(graph);
  return graph;
}

}  // namespace

DType stored_dtype(const PrecisionOptions& options) {
  if (options.fp16) return DType::f16;
  return options.bf16 ? DType::bf16 : DType::f32;
}

bool needs_loss_scale(const PrecisionOptions& options) { return options.fp16; }

Pass precision_pass(const PrecisionOptions& options) {
  return {.name = "precision",
          .needs = {},
          .gives = {facts::kTyped},
          .breaks = {},
          .equality = stored_dtype(options) == DType::f32 ? Equality::exact : Equality::changed,
          .run = [options](Graph graph) { return run(std::move(graph), options); }};
}

DType gradient_dtype(const PrecisionOptions& options) {
  if (options.fp16) {
    if (options.gradient_dtype == GradientType::bf16) {
      user_error(
          "fp16=true keeps gradients in fp32: their scale needs its range. Nearest: "
          "gradient_dtype=auto, or bf16=true with gradient_dtype=bf16.");
    }
    if (options.master_weights == MasterWeights::none) {
      user_error(
          "fp16=true with master_weights=none would lose small updates to rounding. Nearest: "
          "master_weights=fp32, or bf16=true, whose updates are rounded stochastically.");
    }
    return DType::f32;
  }
  const bool wide = options.gradient_dtype == GradientType::fp32 || !options.bf16;
  return wide ? DType::f32 : DType::bf16;
}

}  // namespace snug
