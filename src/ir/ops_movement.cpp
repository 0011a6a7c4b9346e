// Ops that move elements, look into storage or make constants.

#include <algorithm>
#include <array>

#include "ir/elementary.h"
#include "ir/op_rows.h"

namespace snug::rows {
namespace {

Types infer_broadcast(const OpArguments& a) {
  const Shape& from = in(a, 0).shape;
  const Shape to = shape_from_text(a.attributes.text("shape"));
  check_operands(from.rank() <= to.rank(), a);
  for (int i = 1; i <= from.rank(); ++i) check_operands(from[-i] == 1 || from[-i] == to[-i], a);
  return {{in(a, 0).dtype, to}};
}

Types infer_reshape(const OpArguments& a) {
  const Shape to = shape_from_text(a.attributes.text("shape"));
  check_operands(to.elements() == in(a, 0).shape.elements(), a);
  return {{in(a, 0).dtype, to}};
}

Types infer_permute(const OpArguments& a) {
  const TensorType& from = in(a, 0);
  const Shape order = shape_from_text(a.attributes.text("order"));
  check_operands(order.rank() == from.shape.rank(), a);
  Shape to = from.shape;
  std::array<bool, Shape::kMaxRank> seen{};
  for (int i = 0; i < order.rank(); ++i) {
    const std::int64_t axis = order[i];
    check_operands(axis >= 0 && axis < order.rank() && !seen[static_cast<std::size_t>(axis)], a);
    seen[static_cast<std::size_t>(axis)] = true;
    to.set(i, from.shape[static_cast<int>(axis)]);
  }
  return {{from.dtype, to}};
}

Types infer_slice(const OpArguments& a) {
  TensorType type = in(a, 0);
  const auto axis = a.attributes.integer("axis");
  const auto begin = a.attributes.integer("begin");
  const auto end = a.attributes.integer("end");
  check_operands(axis >= 0 && axis < type.shape.rank(), a);
  check_operands(0 <= begin && begin < end && end <= type.shape[static_cast<int>(axis)], a);
  type.shape.set(static_cast<int>(axis), end - begin);
  return {type};
}

Types infer_concat(const OpArguments& a) {
  TensorType type = in(a, 0);
  const TensorType& other = in(a, 1);
  const auto axis = static_cast<int>(a.attributes.integer("axis"));
  check_operands(axis >= 0 && axis < type.shape.rank(), a);
  check_operands(other.dtype == type.dtype && other.shape.rank() == type.shape.rank(), a);
  for (int i = 0; i < type.shape.rank(); ++i) {
    check_operands(i == axis || type.shape[i] == other.shape[i], a);
  }
  type.shape.set(axis, type.shape[axis] + other.shape[axis]);
  return {type};
}

Types infer_one_hot(const OpArguments& a) {
  const TensorType& labels = in(a, 0);
  const auto depth = a.attributes.integer("depth");
  check_operands(labels.dtype == DType::i32 && labels.shape.rank() == 1 && depth > 0, a);
  return {{a.attributes.dtype(), {labels.shape[0], depth}}};
}

Types infer_document_mask(const OpArguments& a) {
  const TensorType& start = in(a, 0);
  check_operands(start.dtype == DType::i32 && start.shape.rank() == 1, a);
  return {{a.attributes.dtype(), {start.shape[0], start.shape[0]}}};
}

Types infer_fill(const OpArguments& a) {
  check_operands(a.attributes.has("value"), a);
  return {{a.attributes.dtype(), shape_from_text(a.attributes.text("shape"))}};
}

Types infer_view(const OpArguments& a) {
  const TensorType& base = in(a, 0);
  const Shape shape = shape_from_text(a.attributes.text("shape"));
  const auto offset = a.attributes.integer("offset");
  const auto stride = a.attributes.integer_or("row_stride", 0);
  std::int64_t end = shape.elements();
  if (stride != 0) {
    const std::int64_t row = shape.elements() / std::max<std::int64_t>(1, shape[0]);
    check_operands(stride >= row, a);
    end = (shape[0] - 1) * stride + row;
  }
  check_operands(offset >= 0 && offset + end <= base.shape.elements(), a);
  return {{base.dtype, shape}};
}

Types infer_same(const OpArguments& a) { return {in(a, 0)}; }

Types infer_write_rows(const OpArguments& a) {
  TensorType whole = in(a, 1);
  check_operands(whole.shape.rank() >= 1, a);
  const std::int64_t rows = has(a, 0) ? in(a, 0).shape[0] : a.attributes.integer("rows");
  const auto begin = a.attributes.integer("begin");
  check_operands(begin >= 0 && begin + whole.shape[0] <= rows, a);
  whole.shape.set(0, rows);
  check_operands(!has(a, 0) || in(a, 0) == whole, a);
  return {whole};
}

OpCost cost_write_rows(const OpArguments& a, std::span<const TensorType>) {
  return {0, 2 * in(a, 1).bytes()};
}

void broadcast_gradient(GradientContext& context) {
  Elementary e(context.builder, backward_name(context));
  const Shape from = e.shape(context.node.inputs[0]);
  ValueId sum = context.output_gradients[0];
  const Shape to = e.shape(sum);
  const int missing = to.rank() - from.rank();
  for (int i = 0; i < to.rank(); ++i) {
    const std::int64_t source = i < missing ? 1 : from[i - missing];
    if (source != to[i]) sum = e.reduce_sum(sum, i);
  }
  context.input_gradients[0] = e.reshape(sum, from);
}

void reshape_gradient(GradientContext& context) {
  Elementary e(context.builder, backward_name(context));
  context.input_gradients[0] =
      e.reshape(context.output_gradients[0], e.shape(context.node.inputs[0]));
}

void permute_gradient(GradientContext& context) {
  Elementary e(context.builder, backward_name(context));
  const Shape order = shape_from_text(context.node.attributes.text("order"));
  Shape inverse = order;
  for (int i = 0; i < order.rank(); ++i) inverse.set(static_cast<int>(order[i]), i);
  context.input_gradients[0] = e.permute(context.output_gradients[0], shape_text(inverse));
}

/// Zeros on both sides of what was cut out.
void slice_gradient(GradientContext& context) {
  Elementary e(context.builder, backward_name(context));
  const Attributes& attributes = context.node.attributes;
  const auto axis = static_cast<int>(attributes.integer("axis"));
  const std::int64_t begin = attributes.integer("begin");
  const std::int64_t after = e.shape(context.node.inputs[0])[axis] - attributes.integer("end");
  ValueId sum = context.output_gradients[0];
  TensorType zeros{e.dtype(sum), e.shape(sum)};
  if (begin > 0) {
    zeros.shape.set(axis, begin);
    sum = e.concat(e.fill(0.0, zeros), sum, axis);
  }
  if (after > 0) {
    zeros.shape.set(axis, after);
    sum = e.concat(sum, e.fill(0.0, zeros), axis);
  }
  context.input_gradients[0] = sum;
}

void concat_gradient(GradientContext& context) {
  Elementary e(context.builder, backward_name(context));
  const auto axis = static_cast<int>(context.node.attributes.integer("axis"));
  const ValueId dy = context.output_gradients[0];
  const std::int64_t border = e.shape(context.node.inputs[0])[axis];
  if (context.needs(0)) context.input_gradients[0] = e.slice(dy, axis, 0, border);
  if (context.needs(1)) {
    context.input_gradients[1] = e.slice(dy, axis, border, e.shape(dy)[axis]);
  }
}

void no_gradient(GradientContext&) {}

constexpr std::array<Aliasing, 1> kVersion{{{0, 0, true}}};

OpDef mover(Op op, std::string_view name, int inputs, Types (*infer)(const OpArguments&),
            void (*gradient)(GradientContext&)) {
  return {.op = op,
          .name = name,
          .min_inputs = inputs,
          .max_inputs = inputs,
          .infer = infer,
          .cost = cost_movement,
          .gradient = gradient,
          .cheap = true};
}

OpDef constant(Op op, std::string_view name, int inputs, Types (*infer)(const OpArguments&)) {
  OpDef row = mover(op, name, inputs, infer, nullptr);
  row.precision = Precision::keep;
  return row;
}

OpDef view(Op op, std::string_view name, Types (*infer)(const OpArguments&),
           void (*gradient)(GradientContext&)) {
  OpDef row = mover(op, name, 1, infer, gradient);
  row.cost = cost_nothing;
  row.aliasing = kVersion;
  row.view = true;
  return row;
}

}  // namespace

std::span<const OpDef> movement() {
  static const std::array table{
      mover(Op::broadcast, "broadcast", 1, infer_broadcast, broadcast_gradient),
      mover(Op::permute, "permute", 1, infer_permute, permute_gradient),
      mover(Op::slice, "slice", 1, infer_slice, slice_gradient),
      mover(Op::concat, "concat", 2, infer_concat, concat_gradient),
      OpDef{.op = Op::write_rows,
            .name = "write_rows",
            .min_inputs = 2,
            .max_inputs = 2,
            .infer = infer_write_rows,
            .cost = cost_write_rows,
            .aliasing = kVersion},
      constant(Op::one_hot, "one_hot", 1, infer_one_hot),
      constant(Op::document_mask, "document_mask", 1, infer_document_mask),
      constant(Op::fill, "fill", 0, infer_fill),
      view(Op::reshape, "reshape", infer_reshape, reshape_gradient),
      view(Op::view, "view", infer_view, nullptr),
      view(Op::stop_gradient, "stop_gradient", infer_same, no_gradient),
  };
  return table;
}

}  // namespace snug::rows
