// Elementwise ops and reductions.

#include <array>
#include <cmath>

#include "ir/elementary.h"
#include "ir/op_rows.h"

namespace snug::rows {
namespace {

Types infer_binary(const OpArguments& a) {
  check_operands(in(a, 0) == in(a, 1) && is_float(in(a, 0).dtype), a);
  return {in(a, 0)};
}

Types infer_unary(const OpArguments& a) {
  check_operands(is_float(in(a, 0).dtype), a);
  return {in(a, 0)};
}

Types infer_scale(const OpArguments& a) {
  check_operands(a.attributes.has("factor"), a);
  return infer_unary(a);
}

Types infer_shift(const OpArguments& a) {
  check_operands(a.attributes.has("offset"), a);
  return infer_unary(a);
}

Types infer_reduce(const OpArguments& a) {
  TensorType type = in(a, 0);
  const auto axis = a.attributes.integer("axis");
  check_operands(is_float(type.dtype) && axis < type.shape.rank() && axis >= -type.shape.rank(), a);
  type.shape.set(static_cast<int>(axis), 1);
  return {type};
}

Types infer_cast(const OpArguments& a) { return {{a.attributes.dtype(), in(a, 0).shape}}; }

Types infer_same(const OpArguments& a) { return {in(a, 0)}; }

OpCost cost_reduce(const OpArguments& a, std::span<const TensorType> outputs) {
  return {in(a, 0).shape.elements(), traffic(a, outputs)};
}

/// Operands, result and gradient of the node of a rule.
struct Flow {
  explicit Flow(const GradientContext& context)
      : emit(context.builder, backward_name(context)),
        a(operand(context.node, 0)),
        b(operand(context.node, 1)),
        y(context.node.outputs[0]),
        dy(context.output_gradients[0]) {}
  Elementary emit;
  ValueId a, b, y, dy;
};

void add_gradient(GradientContext& context) {
  const Flow f(context);
  if (context.needs(0)) context.input_gradients[0] = f.dy;
  if (context.needs(1)) context.input_gradients[1] = f.dy;
}

void sub_gradient(GradientContext& context) {
  Flow f(context);
  if (context.needs(0)) context.input_gradients[0] = f.dy;
  if (context.needs(1)) context.input_gradients[1] = f.emit.scale(f.dy, -1.0);
}

void mul_gradient(GradientContext& context) {
  Flow f(context);
  if (context.needs(0)) context.input_gradients[0] = f.emit.mul(f.dy, f.b);
  if (context.needs(1)) context.input_gradients[1] = f.emit.mul(f.dy, f.a);
}

void div_gradient(GradientContext& context) {
  Flow f(context);
  const ValueId scaled = f.emit.div(f.dy, f.b);
  if (context.needs(0)) context.input_gradients[0] = scaled;
  if (context.needs(1)) {
    context.input_gradients[1] = f.emit.scale(f.emit.mul(scaled, f.y), -1.0);
  }
}

void scale_gradient(GradientContext& context) {
  Flow f(context);
  context.input_gradients[0] = f.emit.scale(f.dy, context.node.attributes.real("factor"));
}

void shift_gradient(GradientContext& context) {
  context.input_gradients[0] = context.output_gradients[0];
}

void exp_gradient(GradientContext& context) {
  Flow f(context);
  context.input_gradients[0] = f.emit.mul(f.dy, f.y);
}

void log_gradient(GradientContext& context) {
  Flow f(context);
  context.input_gradients[0] = f.emit.div(f.dy, f.a);
}

void rsqrt_gradient(GradientContext& context) {  // -y^3 / 2
  Flow f(context);
  const ValueId cube = f.emit.mul(f.y, f.emit.mul(f.y, f.y));
  context.input_gradients[0] = f.emit.scale(f.emit.mul(f.dy, cube), -0.5);
}

void sigmoid_gradient(GradientContext& context) {  // y (1 - y)
  Flow f(context);
  const ValueId rest = f.emit.shift(f.emit.scale(f.y, -1.0), 1.0);
  context.input_gradients[0] = f.emit.mul(f.dy, f.emit.mul(f.y, rest));
}

void reduce_sum_gradient(GradientContext& context) {
  Flow f(context);
  context.input_gradients[0] = f.emit.broadcast(f.dy, f.emit.shape(f.a));
}

void cast_gradient(GradientContext& context) {
  Flow f(context);
  context.input_gradients[0] = f.emit.cast(f.dy, f.emit.dtype(f.a));
}

void copy_gradient(GradientContext& context) {
  context.input_gradients[0] = context.output_gradients[0];
}

constexpr std::array<Aliasing, 1> kFirst{{{0, 0, false}}};
constexpr std::array<Aliasing, 2> kEither{{{0, 0, false}, {0, 1, false}}};

using Gradient = void (*)(GradientContext&);
using Infer = Types (*)(const OpArguments&);

OpDef binary(Op op, std::string_view name, Gradient gradient) {
  return {.op = op,
          .name = name,
          .min_inputs = 2,
          .max_inputs = 2,
          .infer = infer_binary,
          .cost = cost_elementwise,
          .gradient = gradient,
          .aliasing = kEither,
          .cheap = true};
}

OpDef unary(Op op, std::string_view name, Gradient gradient, Infer infer = infer_unary) {
  return {.op = op,
          .name = name,
          .min_inputs = 1,
          .max_inputs = 1,
          .infer = infer,
          .cost = cost_elementwise,
          .gradient = gradient,
          .aliasing = kFirst,
          .cheap = true};
}

OpDef reduce(Op op, std::string_view name, Gradient gradient) {
  return {.op = op,
          .name = name,
          .min_inputs = 1,
          .max_inputs = 1,
          .infer = infer_reduce,
          .cost = cost_reduce,
          .gradient = gradient,
          .cheap = true};
}

OpDef cast_row() {
  OpDef row = unary(Op::cast, "cast", cast_gradient, infer_cast);
  row.cost = cost_movement;
  row.precision = Precision::keep;
  return row;
}

OpDef copy_row() {
  OpDef row = unary(Op::copy, "copy", copy_gradient, infer_same);
  row.cost = cost_movement;
  row.aliasing = {};
  return row;
}

}  // namespace

std::span<const OpDef> arithmetic() {
  static const std::array table{
      binary(Op::add, "add", add_gradient),
      binary(Op::sub, "sub", sub_gradient),
      binary(Op::mul, "mul", mul_gradient),
      binary(Op::div, "div", div_gradient),
      unary(Op::scale, "scale", scale_gradient, infer_scale),
      unary(Op::shift, "shift", shift_gradient, infer_shift),
      unary(Op::exp, "exp", exp_gradient),
      unary(Op::log, "log", log_gradient),
      unary(Op::rsqrt, "rsqrt", rsqrt_gradient),
      unary(Op::sigmoid, "sigmoid", sigmoid_gradient),
      reduce(Op::reduce_sum, "reduce_sum", reduce_sum_gradient),
      reduce(Op::reduce_max, "reduce_max", nullptr),
      cast_row(),
      copy_row(),
  };
  return table;
}

}  // namespace snug::rows
