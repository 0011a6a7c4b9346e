// RMS norm, the gated activation and the rotary embedding.

#include <array>

#include "ir/elementary.h"
#include "ir/op_rows.h"

namespace snug::rows {
namespace {

bool is_norm(const OpArguments& a, std::size_t x, std::size_t w) {
  const Shape& shape = in(a, x).shape;
  return shape.rank() >= 1 && is_float(in(a, x).dtype) && is_float(in(a, w).dtype) &&
         in(a, w).shape == Shape{shape[-1]} && a.attributes.has("eps");
}

Types infer_rms_norm(const OpArguments& a) {
  check_operands(is_norm(a, 0, 1), a);
  return {in(a, 0)};
}

Types infer_rms_norm_dx(const OpArguments& a) {
  check_operands(in(a, 0).shape == in(a, 1).shape && is_norm(a, 1, 2), a);
  return {in(a, 1)};
}

Types infer_rms_norm_dw(const OpArguments& a) {
  const TensorType& x = in(a, 1);
  check_operands(in(a, 0).shape == x.shape && x.shape.rank() >= 1 && a.attributes.has("eps"), a);
  const TensorType dw{a.attributes.dtype(), {x.shape[-1]}};
  check_accumulator(a, 2, dw);
  return {dw};
}

Types infer_silu_mul(const OpArguments& a) {
  check_operands(in(a, 0) == in(a, 1) && is_float(in(a, 0).dtype), a);
  return {in(a, 0)};
}

Types infer_silu_mul_grad(const OpArguments& a) {
  check_operands(in(a, 0) == in(a, 1) && in(a, 0) == in(a, 2) && is_float(in(a, 0).dtype), a);
  return {in(a, 0), in(a, 1)};
}

Types infer_rope_table(const OpArguments& a) {
  const TensorType type{DType::f32,
                        {a.attributes.integer("positions"), a.attributes.integer("half")}};
  check_operands(a.attributes.has("theta") && type.shape.elements() > 0, a);
  return {type, type};
}

Types infer_rope(const OpArguments& a) {
  const TensorType& x = in(a, 0);
  const TensorType& table = in(a, 1);
  check_operands(x.shape.rank() == 3 && is_float(x.dtype), a);
  check_operands(table.shape.rank() == 2 && 2 * table.shape[1] == x.shape[2], a);
  check_operands(is_float(table.dtype) && in(a, 2) == table, a);
  check_operands(is_row_indices(a, 3, x.shape[0]), a);
  return {x};
}

/// `times` operations for each element of operand `i`.
template <int times, std::size_t i>
OpCost cost_each(const OpArguments& a, std::span<const TensorType> outputs) {
  return {times * in(a, i).shape.elements(), traffic(a, outputs)};
}

/// The tables are read at the tokens' positions only.
OpCost cost_rope(const OpArguments& a, std::span<const TensorType> outputs) {
  const TensorType& x = in(a, 0);
  const std::int64_t rows = x.shape[0] * in(a, 1).shape[1] * size_of(in(a, 1).dtype);
  return {3 * x.shape.elements(), x.bytes() + outputs[0].bytes() + 2 * rows};
}

OpCost cost_rope_table(const OpArguments& a, std::span<const TensorType> outputs) {
  return {2 * outputs[0].shape.elements(), traffic(a, outputs)};
}

void rms_norm_gradient(GradientContext& context) {
  const ValueId x = context.node.inputs[0];
  const ValueId dy = context.output_gradients[0];
  const Attributes eps{{"eps", context.node.attributes.real("eps")}};
  if (context.needs(1)) accumulate_gradient(context, 1, Op::rms_norm_dw, {dy, x}, eps);
  if (context.needs(0)) {
    context.input_gradients[0] = context.builder.one(
        Op::rms_norm_dx, {dy, x, context.node.inputs[1]}, eps, backward_name(context));
  }
}

void silu_mul_gradient(GradientContext& context) {
  const ValueId gate = context.node.inputs[0];
  const ValueId up = context.node.inputs[1];
  context.input_gradients = context.builder.emit(
      Op::silu_mul_grad, {gate, up, context.output_gradients[0]}, {}, backward_name(context));
}

/// A rotation's gradient is the rotation back.
void rope_gradient(GradientContext& context) {
  const Node& node = context.node;
  const std::int64_t inverse = node.attributes.integer_or("inverse", 0) == 0 ? 1 : 0;
  context.input_gradients[0] = context.builder.one(
      Op::rope, {context.output_gradients[0], node.inputs[1], node.inputs[2], node.inputs[3]},
      {{"inverse", inverse}}, backward_name(context));
}

/// 1 / sqrt(mean(x^2) + eps) of each row, repeated along it; x is wide.
ValueId inverse_rms(Elementary& e, ValueId x, double eps) {
  const ValueId sum = e.reduce_sum(e.mul(x, x), -1);
  const ValueId mean = e.scale(sum, 1.0 / static_cast<double>(e.shape(x)[-1]));
  return e.broadcast(e.rsqrt(e.shift(mean, eps)), e.shape(x));
}

std::vector<ValueId> rms_norm_definition(Builder& builder, const Node& node) {
  Elementary e(builder, node_name(builder, node));
  const ValueId x = e.wide(node.inputs[0]);
  const ValueId w = e.broadcast(e.cast(node.inputs[1], e.dtype(x)), e.shape(x));
  const ValueId normed = e.mul(x, inverse_rms(e, x, node.attributes.real("eps")));
  return {e.cast(e.mul(normed, w), e.dtype(node.inputs[0]))};
}

/// r (g - x r^2 mean(g x)) with g = dy w and r the inverse RMS.
std::vector<ValueId> rms_norm_dx_definition(Builder& builder, const Node& node) {
  Elementary e(builder, node_name(builder, node));
  const ValueId x = e.wide(node.inputs[1]);
  const ValueId w = e.broadcast(e.cast(node.inputs[2], e.dtype(x)), e.shape(x));
  const ValueId g = e.mul(e.cast(node.inputs[0], e.dtype(x)), w);
  const ValueId r = inverse_rms(e, x, node.attributes.real("eps"));
  const ValueId dot =
      e.scale(e.reduce_sum(e.mul(g, x), -1), 1.0 / static_cast<double>(e.shape(x)[-1]));
  const ValueId along = e.mul(e.mul(r, r), e.mul(x, e.broadcast(dot, e.shape(x))));
  return {e.cast(e.mul(r, e.sub(g, along)), e.dtype(node.inputs[1]))};
}

std::vector<ValueId> rms_norm_dw_definition(Builder& builder, const Node& node) {
  Elementary e(builder, node_name(builder, node));
  const ValueId x = e.wide(node.inputs[1]);
  const ValueId normed = e.mul(x, inverse_rms(e, x, node.attributes.real("eps")));
  ValueId sum = e.column_sum(e.mul(e.cast(node.inputs[0], e.dtype(x)), normed));
  const ValueId acc = operand(node, 2);
  if (exists(acc)) sum = e.add(sum, e.cast(acc, e.dtype(sum)));
  return {e.cast(sum, e.dtype(node.outputs[0]))};
}

std::vector<ValueId> silu_mul_definition(Builder& builder, const Node& node) {
  Elementary e(builder, node_name(builder, node));
  const ValueId gate = e.wide(node.inputs[0]);
  const ValueId silu = e.mul(gate, e.sigmoid(gate));
  return {e.cast(e.mul(silu, e.wide(node.inputs[1])), e.dtype(node.inputs[0]))};
}

/// silu'(z) = s (1 + z (1 - s)), s = sigmoid(z).
std::vector<ValueId> silu_mul_grad_definition(Builder& builder, const Node& node) {
  Elementary e(builder, node_name(builder, node));
  const ValueId gate = e.wide(node.inputs[0]);
  const ValueId dy = e.wide(node.inputs[2]);
  const ValueId s = e.sigmoid(gate);
  const ValueId rest = e.mul(gate, e.shift(e.scale(s, -1.0), 1.0));
  const ValueId slope = e.mul(s, e.shift(rest, 1.0));
  const DType type = e.dtype(node.inputs[0]);
  const ValueId dgate = e.mul(e.mul(dy, e.wide(node.inputs[1])), slope);
  return {e.cast(dgate, type), e.cast(e.mul(dy, e.mul(gate, s)), type)};
}

/// Rows of a [P, half] table at the tokens' positions, repeated for each head.
ValueId table_rows(Elementary& e, ValueId table, ValueId positions, const Shape& to, DType type) {
  const ValueId rows = e.matmul(e.one_hot(positions, e.shape(table)[0], type), e.cast(table, type));
  return e.broadcast(e.reshape(rows, {to[0], 1, to[2]}), to);
}

std::vector<ValueId> rope_definition(Builder& builder, const Node& node) {
  Elementary e(builder, node_name(builder, node));
  const ValueId x = e.wide(node.inputs[0]);
  const Shape shape = e.shape(x);
  const std::int64_t half = shape[2] / 2;
  const Shape to{shape[0], shape[1], half};
  const ValueId cos = table_rows(e, node.inputs[1], node.inputs[3], to, e.dtype(x));
  ValueId sin = table_rows(e, node.inputs[2], node.inputs[3], to, e.dtype(x));
  if (node.attributes.integer_or("inverse", 0) != 0) sin = e.scale(sin, -1.0);
  const ValueId low = e.slice(x, 2, 0, half);
  const ValueId high = e.slice(x, 2, half, shape[2]);
  const ValueId turned = e.concat(e.sub(e.mul(low, cos), e.mul(high, sin)),
                                  e.add(e.mul(high, cos), e.mul(low, sin)), 2);
  return {e.cast(turned, e.dtype(node.inputs[0]))};
}

constexpr std::array<Aliasing, 1> kFirst{{{0, 0, false}}};
constexpr std::array<Aliasing, 2> kEither{{{0, 0, false}, {0, 1, false}}};
constexpr std::array<Aliasing, 2> kPairs{{{0, 0, false}, {1, 1, false}}};
constexpr std::array<Aliasing, 1> kThirdAcc{{{0, 2, true}}};

}  // namespace

std::span<const OpDef> norms() {
  static const std::array table{
      OpDef{.op = Op::rms_norm,
            .name = "rms_norm",
            .min_inputs = 2,
            .max_inputs = 2,
            .infer = infer_rms_norm,
            .cost = cost_each<4, 0>,
            .gradient = rms_norm_gradient,
            .definition = rms_norm_definition,
            .aliasing = kFirst,
            .cheap = true},
      OpDef{.op = Op::rms_norm_dx,
            .name = "rms_norm_dx",
            .min_inputs = 3,
            .max_inputs = 3,
            .infer = infer_rms_norm_dx,
            .cost = cost_each<8, 1>,
            .definition = rms_norm_dx_definition,
            .aliasing = kFirst},
      OpDef{.op = Op::rms_norm_dw,
            .name = "rms_norm_dw",
            .min_inputs = 2,
            .max_inputs = 4,
            .infer = infer_rms_norm_dw,
            .cost = cost_each<5, 1>,
            .definition = rms_norm_dw_definition,
            .aliasing = kThirdAcc,
            .precision = Precision::keep,
            .accumulator = 2},
      OpDef{.op = Op::silu_mul,
            .name = "silu_mul",
            .min_inputs = 2,
            .max_inputs = 2,
            .infer = infer_silu_mul,
            .cost = cost_each<5, 1>,
            .gradient = silu_mul_gradient,
            .definition = silu_mul_definition,
            .aliasing = kEither,
            .cheap = true},
      OpDef{.op = Op::silu_mul_grad,
            .name = "silu_mul_grad",
            .min_inputs = 3,
            .max_inputs = 3,
            .min_outputs = 2,
            .max_outputs = 2,
            .infer = infer_silu_mul_grad,
            .cost = cost_each<10, 1>,
            .definition = silu_mul_grad_definition,
            .aliasing = kPairs,
            .cheap = true},
      OpDef{.op = Op::rope_table,
            .name = "rope_table",
            .min_outputs = 2,
            .max_outputs = 2,
            .infer = infer_rope_table,
            .cost = cost_rope_table,
            .precision = Precision::keep,
            .cheap = true},
      OpDef{.op = Op::rope,
            .name = "rope",
            .min_inputs = 4,
            .max_inputs = 4,
            .infer = infer_rope,
            .cost = cost_rope,
            .gradient = rope_gradient,
            .definition = rope_definition,
            .aliasing = kFirst,
            .cheap = true},
  };
  return table;
}

}  // namespace snug::rows
