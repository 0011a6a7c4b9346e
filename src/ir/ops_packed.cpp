// Products with packed weight matrices (core/packed_format.h): no gradient flows into them.

#include <array>

#include "core/packed_format.h"
#include "ir/elementary.h"
#include "ir/op_rows.h"

namespace snug::rows {
namespace {

// Operands of a packed matrix, counted from its first.
constexpr std::size_t kScales = 1;
constexpr std::size_t kNested = 2;
constexpr std::size_t kOffset = 3;
constexpr std::size_t kPackedOperands = 4;

PackedFormat format_of(const OpArguments& a) {
  const auto format = packed_format_from_name(a.attributes.text("format"));
  check_operands(format.has_value(), a);
  return *format;
}

/// Checks the four operands from `first` on, which hold a [rows, columns] matrix.
void check_packed(const OpArguments& a, std::size_t first, std::int64_t rows,
                  std::int64_t columns) {
  const PackedFormat format = format_of(a);
  const std::int64_t scales = packed_scales(format, rows, columns);
  const bool nested = has(a, first + kNested);
  check_operands(nested == has(a, first + kOffset), a);
  check_operands(!nested || is_four_bit(format), a);
  const TensorType codes{is_four_bit(format) ? DType::u8 : DType::i8,
                         {packed_code_bytes(format, rows * columns)}};
  check_operands(in(a, first) == codes, a);
  const DType scale_type = nested ? DType::u8 : DType::f32;
  check_operands(in(a, first + kScales) == TensorType{scale_type, {scales}}, a);
  if (!nested) return;
  check_operands(in(a, first + kNested) == TensorType{DType::f32, {nested_scales(scales)}}, a);
  check_operands(in(a, first + kOffset) == TensorType{DType::f32, Shape{}}, a);
}

bool is_matrix(const TensorType& type) { return type.shape.rank() == 2 && is_float(type.dtype); }

Types infer_dequantize(const OpArguments& a) {
  const Shape shape = shape_from_text(a.attributes.text("shape"));
  check_operands(shape.rank() == 2 && is_float(a.attributes.dtype()), a);
  check_packed(a, 0, shape[0], shape[1]);
  return {{a.attributes.dtype(), shape}};
}

Types infer_packed_linear(const OpArguments& a) {
  const TensorType& x = in(a, 0);
  const std::int64_t rows = a.attributes.integer("rows");
  check_operands(is_matrix(x), a);
  check_packed(a, 1, rows, x.shape[1]);
  const TensorType y{dtype_or(a, x.dtype), {x.shape[0], rows}};
  if (has(a, 5)) check_operands(is_float(in(a, 5).dtype) && in(a, 5).shape == Shape{rows}, a);
  check_accumulator(a, 6, y);
  return {y};
}

Types infer_packed_linear_dx(const OpArguments& a) {
  const TensorType& dy = in(a, 0);
  const std::int64_t columns = a.attributes.integer("columns");
  check_operands(is_matrix(dy), a);
  check_packed(a, 1, dy.shape[1], columns);
  const TensorType dx{dtype_or(a, dy.dtype), {dy.shape[0], columns}};
  check_accumulator(a, 5, dx);
  return {dx};
}

OpCost cost_packed_product(const OpArguments& a, std::span<const TensorType> outputs) {
  return {2 * in(a, 0).shape[1] * outputs[0].shape.elements(), traffic(a, outputs)};
}

void packed_linear_gradient(GradientContext& context) {
  Builder& builder = context.builder;
  const ValueId x = context.node.inputs[0];
  const ValueId dy = context.output_gradients[0];
  if (context.needs(5)) accumulate_gradient(context, 5, Op::column_sum, {dy}, {});
  if (context.needs(6)) context.input_gradients[6] = dy;
  if (!context.needs(0)) return;
  std::vector<ValueId> operands{dy};
  for (std::size_t i = 1; i <= kPackedOperands; ++i) operands.push_back(operand(context.node, i));
  const ValueId partial = context.partial(0);
  if (exists(partial)) {
    operands.push_back(partial);
    context.took_partial(0);
  }
  const TensorType type = builder.graph().value(x).type;
  Attributes attributes{{"format", context.node.attributes.text("format")},
                        {"columns", type.shape[1]}};
  if (type.dtype != builder.graph().value(dy).type.dtype) {
    attributes.set("dtype", std::string(name_of(type.dtype)));
  }
  context.input_gradients[0] = builder.one(Op::packed_linear_dx, std::move(operands),
                                           std::move(attributes), backward_name(context));
}

/// The matrix in the type of the node's operand 0.
ValueId unpacked(Builder& builder, const Node& node, const Shape& shape) {
  const DType type = builder.graph().value(node.inputs[0]).type.dtype;
  return builder.one(Op::dequantize,
                     {node.inputs[1], node.inputs[2], operand(node, 3), operand(node, 4)},
                     {{"format", node.attributes.text("format")},
                      {"shape", shape_text(shape)},
                      {"dtype", std::string(name_of(type))}},
                     node_name(builder, node) + "/weight");
}

std::vector<ValueId> packed_linear_definition(Builder& builder, const Node& node) {
  Elementary e(builder, node_name(builder, node));
  const ValueId x = node.inputs[0];
  const ValueId w = unpacked(builder, node, {node.attributes.integer("rows"), e.shape(x)[1]});
  ValueId y = e.matmul(e.wide(x), e.wide(w), false, true);
  const ValueId bias = operand(node, 5);
  if (exists(bias)) y = e.add(y, e.broadcast(e.cast(bias, e.dtype(y)), e.shape(y)));
  const ValueId acc = operand(node, 6);
  if (exists(acc)) y = e.add(y, e.cast(acc, e.dtype(y)));
  return {e.cast(y, e.dtype(node.outputs[0]))};
}

std::vector<ValueId> packed_linear_dx_definition(Builder& builder, const Node& node) {
  Elementary e(builder, node_name(builder, node));
  const ValueId dy = node.inputs[0];
  const ValueId w = unpacked(builder, node, {e.shape(dy)[1], node.attributes.integer("columns")});
  ValueId dx = e.matmul(e.wide(dy), e.wide(w));
  const ValueId acc = operand(node, 5);
  if (exists(acc)) dx = e.add(dx, e.cast(acc, e.dtype(dx)));
  return {e.cast(dx, e.dtype(node.outputs[0]))};
}

constexpr std::array<Aliasing, 1> kLinearAcc{{{0, 6, true}}};
constexpr std::array<Aliasing, 1> kDxAcc{{{0, 5, true}}};

}  // namespace

std::span<const OpDef> packed_products() {
  static const std::array table{
      OpDef{.op = Op::dequantize,
            .name = "dequantize",
            .min_inputs = 2,
            .max_inputs = 4,
            .infer = infer_dequantize,
            .cost = cost_elementwise,
            .precision = Precision::keep},
      OpDef{.op = Op::packed_linear,
            .name = "packed_linear",
            .min_inputs = 3,
            .max_inputs = 7,
            .infer = infer_packed_linear,
            .cost = cost_packed_product,
            .gradient = packed_linear_gradient,
            .definition = packed_linear_definition,
            .aliasing = kLinearAcc,
            .accumulator = 6},
      OpDef{.op = Op::packed_linear_dx,
            .name = "packed_linear_dx",
            .min_inputs = 3,
            .max_inputs = 6,
            .infer = infer_packed_linear_dx,
            .cost = cost_packed_product,
            .definition = packed_linear_dx_definition,
            .aliasing = kDxAcc,
            .accumulator = 5},
  };
  return table;
}

}  // namespace snug::rows
