// What low-rank adapters need beside linear layers: DoRA's column scales and norms, dropout.

#include <array>

#include "ir/elementary.h"
#include "ir/op_rows.h"

namespace snug::rows {
namespace {

bool is_vector(const TensorType& type, std::int64_t size) {
  return is_float(type.dtype) && type.shape == Shape{size};
}

Types infer_scale_columns(const OpArguments& a) {
  const TensorType& x = in(a, 0);
  check_operands(is_float(x.dtype) && x.shape.rank() == 2, a);
  const std::int64_t columns = x.shape[1];
  check_operands(is_vector(in(a, 1), columns), a);
  check_operands((in(a, 2) == TensorType{sum_dtype(x.dtype), {columns}}), a);
  if (has(a, 3)) check_operands(is_vector(in(a, 3), columns), a);
  return {x};
}

Types infer_scale_columns_dw(const OpArguments& a) {
  const TensorType& x = in(a, 1);
  check_operands(in(a, 0) == x && is_float(x.dtype) && x.shape.rank() == 2, a);
  check_operands((in(a, 2) == TensorType{sum_dtype(x.dtype), {x.shape[1]}}), a);
  const TensorType sum{a.attributes.dtype(), {x.shape[1]}};
  check_accumulator(a, 3, sum);
  return {sum};
}

Types infer_dora_norm(const OpArguments& a) {
  const TensorType& w = in(a, 0);
  const Shape& down = in(a, 1).shape;
  const Shape& up = in(a, 2).shape;
  check_operands(is_float(w.dtype) && w.shape.rank() == 2 && a.attributes.has("scale"), a);
  check_operands(is_float(in(a, 1).dtype) && down.rank() == 2 && down[1] == w.shape[1], a);
  check_operands(is_float(in(a, 2).dtype) && (up == Shape{w.shape[0], down[0]}), a);
  return {{sum_dtype(w.dtype), {w.shape[0]}}};
}

Types infer_dropout(const OpArguments& a) {
  const TensorType& x = in(a, 0);
  check_operands(is_float(x.dtype) && x.shape.rank() == 2, a);
  check_operands((in(a, 1) == TensorType{DType::i64, {}}), a);
  check_operands(is_row_indices(a, 2, x.shape[0]) && is_row_indices(a, 3, x.shape[0]), a);
  const double rate = a.attributes.real("rate");
  check_operands(rate >= 0 && rate < 1, a);
  return {x};
}

/// w by a, and norms.
OpCost cost_dora_norm(const OpArguments& a, std::span<const TensorType> outputs) {
  return {2 * in(a, 0).shape.elements() * in(a, 1).shape[0], traffic(a, outputs)};
}

void scale_columns_gradient(GradientContext& context) {
  const Node& node = context.node;
  const ValueId dy = context.output_gradients[0];
  const ValueId norms = node.inputs[2];
  if (context.needs(1)) {
    accumulate_gradient(context, 1, Op::scale_columns_dw, {dy, node.inputs[0], norms}, {});
  }
  if (context.needs(3)) accumulate_gradient(context, 3, Op::column_sum, {dy}, {});
  if (context.needs(0)) {
    context.input_gradients[0] = context.builder.one(Op::scale_columns, {dy, node.inputs[1], norms},
                                                     {}, backward_name(context));
  }
}

/// The same elements are dropped: the op itself on the gradient.
void dropout_gradient(GradientContext& context) {
  std::vector<ValueId> operands = context.node.inputs;
  operands[0] = context.output_gradients[0];
  context.input_gradients[0] = context.builder.one(Op::dropout, std::move(operands),
                                                   context.node.attributes, backward_name(context));
}

std::vector<ValueId> scale_columns_definition(Builder& builder, const Node& node) {
  Elementary e(builder, node_name(builder, node));
  const ValueId x = e.wide(node.inputs[0]);
  const ValueId factor = e.div(e.cast(node.inputs[1], e.dtype(x)), node.inputs[2]);
  ValueId y = e.mul(x, e.broadcast(factor, e.shape(x)));
  const ValueId bias = operand(node, 3);
  if (exists(bias)) y = e.add(y, e.broadcast(e.cast(bias, e.dtype(y)), e.shape(y)));
  return {e.cast(y, e.dtype(node.outputs[0]))};
}

std::vector<ValueId> scale_columns_dw_definition(Builder& builder, const Node& node) {
  Elementary e(builder, node_name(builder, node));
  const ValueId sum = e.column_sum(e.mul(e.wide(node.inputs[0]), e.wide(node.inputs[1])));
  ValueId dm = e.div(sum, node.inputs[2]);
  const ValueId acc = operand(node, 3);
  if (exists(acc)) dm = e.add(dm, e.cast(acc, e.dtype(dm)));
  return {e.cast(dm, e.dtype(node.outputs[0]))};
}

std::vector<ValueId> dora_norm_definition(Builder& builder, const Node& node) {
  Elementary e(builder, node_name(builder, node));
  const ValueId delta = e.matmul(e.wide(node.inputs[2]), e.wide(node.inputs[1]));
  const ValueId sum = e.add(e.wide(node.inputs[0]), e.scale(delta, node.attributes.real("scale")));
  const ValueId squares = e.reshape(e.reduce_sum(e.mul(sum, sum), 1), Shape{e.shape(sum)[0]});
  return {e.mul(squares, e.rsqrt(squares))};
}

constexpr std::array<Aliasing, 1> kFirst{{{0, 0, false}}};
constexpr std::array<Aliasing, 1> kFourthAcc{{{0, 3, true}}};

}  // namespace

std::span<const OpDef> adapters() {
  static const std::array table{
      OpDef{.op = Op::scale_columns,
            .name = "scale_columns",
            .min_inputs = 3,
            .max_inputs = 4,
            .infer = infer_scale_columns,
            .cost = cost_elementwise,
            .gradient = scale_columns_gradient,
            .definition = scale_columns_definition,
            .aliasing = kFirst,
            .cheap = true},
      OpDef{.op = Op::scale_columns_dw,
            .name = "scale_columns_dw",
            .min_inputs = 3,
            .max_inputs = 5,
            .infer = infer_scale_columns_dw,
            .cost = cost_elementwise,
            .definition = scale_columns_dw_definition,
            .aliasing = kFourthAcc,
            .precision = Precision::keep,
            .accumulator = 3},
      OpDef{.op = Op::dora_norm,
            .name = "dora_norm",
            .min_inputs = 3,
            .max_inputs = 3,
            .infer = infer_dora_norm,
            .cost = cost_dora_norm,
            .definition = dora_norm_definition},
      OpDef{.op = Op::dropout,
            .name = "dropout",
            .min_inputs = 4,
            .max_inputs = 4,
            .infer = infer_dropout,
            .cost = cost_elementwise,
            .gradient = dropout_gradient,
            .aliasing = kFirst,
            .cheap = true},
  };
  return table;
}

}  // namespace snug::rows
