// Products: matmul, and the linear layers and embeddings made of it.

#include <array>

#include "ir/elementary.h"
#include "ir/op_rows.h"

namespace snug::rows {
namespace {

bool flag(const Attributes& attributes, std::string_view key) {
  return attributes.integer_or(key, 0) != 0;
}

Types infer_matmul(const OpArguments& a) {
  const TensorType& x = in(a, 0);
  const TensorType& y = in(a, 1);
  const int rank = x.shape.rank();
  check_operands(rank >= 2 && y.shape.rank() == rank, a);
  check_operands(x.dtype == y.dtype && is_float(x.dtype), a);
  for (int i = 0; i < rank - 2; ++i) check_operands(x.shape[i] == y.shape[i], a);
  const bool turn_x = flag(a.attributes, "transpose_a");
  const bool turn_y = flag(a.attributes, "transpose_b");
  check_operands(x.shape[turn_x ? -2 : -1] == y.shape[turn_y ? -1 : -2], a);
  TensorType type = x;
  type.shape.set(-2, x.shape[turn_x ? -1 : -2]);
  type.shape.set(-1, y.shape[turn_y ? -2 : -1]);
  return {type};
}

OpCost cost_matmul(const OpArguments& a, std::span<const TensorType> outputs) {
  const std::int64_t inner = in(a, 0).shape[flag(a.attributes, "transpose_a") ? -2 : -1];
  return {2 * inner * outputs[0].shape.elements(), traffic(a, outputs)};
}

/// With A and B as multiplied (after transposing): dA = dY Bt, dB = At dY.
void matmul_gradient(GradientContext& context) {
  Elementary e(context.builder, node_name(context.builder, context.node) + ".backward");
  const ValueId a = context.node.inputs[0];
  const ValueId b = context.node.inputs[1];
  const ValueId dy = context.output_gradients[0];
  const bool turn_a = flag(context.node.attributes, "transpose_a");
  const bool turn_b = flag(context.node.attributes, "transpose_b");
  if (context.needs(0)) {
    context.input_gradients[0] =
        turn_a ? e.matmul(b, dy, turn_b, true) : e.matmul(dy, b, false, !turn_b);
  }
  if (context.needs(1)) {
    context.input_gradients[1] =
        turn_b ? e.matmul(dy, a, true, turn_a) : e.matmul(a, dy, !turn_a, false);
  }
}

bool is_matrix(const TensorType& type) { return type.shape.rank() == 2 && is_float(type.dtype); }

Types infer_linear(const OpArguments& a) {
  const TensorType& x = in(a, 0);
  const TensorType& w = in(a, 1);
  check_operands(is_matrix(x) && is_matrix(w) && x.shape[1] == w.shape[1], a);
  const TensorType y{dtype_or(a, x.dtype), {x.shape[0], w.shape[0]}};
  if (has(a, 2)) {
    check_operands(is_float(in(a, 2).dtype) && in(a, 2).shape == Shape{w.shape[0]}, a);
  }
  check_accumulator(a, 3, y);
  return {y};
}

Types infer_linear_dx(const OpArguments& a) {
  const TensorType& dy = in(a, 0);
  const TensorType& w = in(a, 1);
  check_operands(is_matrix(dy) && is_matrix(w) && dy.shape[1] == w.shape[0], a);
  const TensorType dx{dtype_or(a, dy.dtype), {dy.shape[0], w.shape[1]}};
  check_accumulator(a, 2, dx);
  return {dx};
}

Types infer_linear_dw(const OpArguments& a) {
  const TensorType& dy = in(a, 0);
  const TensorType& x = in(a, 1);
  check_operands(is_matrix(dy) && is_matrix(x) && dy.shape[0] == x.shape[0], a);
  const TensorType dw{a.attributes.dtype(), {dy.shape[1], x.shape[1]}};
  check_accumulator(a, 2, dw);
  return {dw};
}

Types infer_column_sum(const OpArguments& a) {
  const TensorType& dy = in(a, 0);
  check_operands(is_matrix(dy), a);
  const TensorType sum{a.attributes.dtype(), {dy.shape[1]}};
  check_accumulator(a, 1, sum);
  return {sum};
}

Types infer_embedding(const OpArguments& a) {
  const TensorType& table = in(a, 0);
  const TensorType& ids = in(a, 1);
  check_operands(is_matrix(table) && ids.shape.rank() == 1 && ids.dtype == DType::i32, a);
  return {{table.dtype, {ids.shape[0], table.shape[1]}}};
}

Types infer_embedding_dw(const OpArguments& a) {
  const TensorType& dy = in(a, 0);
  check_operands(is_matrix(dy) && is_row_indices(a, 1, dy.shape[0]), a);
  const TensorType dw{a.attributes.dtype(), {a.attributes.integer("rows"), dy.shape[1]}};
  check_accumulator(a, 2, dw);
  return {dw};
}

/// x [T,K] by w [N,K], by dy [T,N] with w, by dy with x: each 2 T K N.
OpCost cost_product(const OpArguments& a, std::span<const TensorType> outputs) {
  const Shape& x = in(a, 0).shape;
  const Shape& y = in(a, 1).shape;
  const std::int64_t inner = a.op == Op::linear_dw ? x[0] : x[1];
  const std::int64_t rows = a.op == Op::linear_dw ? x[1] : x[0];
  const std::int64_t columns = a.op == Op::linear ? y[0] : y[1];
  return {2 * inner * rows * columns, traffic(a, outputs)};
}

OpCost cost_column_sum(const OpArguments& a, std::span<const TensorType> outputs) {
  return {in(a, 0).shape.elements(), traffic(a, outputs)};
}

/// Only the rows looked up are read.
OpCost cost_embedding(const OpArguments& a, std::span<const TensorType> outputs) {
  return {0, in(a, 1).bytes() + 2 * outputs[0].bytes()};
}

void linear_gradient(GradientContext& context) {
  Builder& builder = context.builder;
  const ValueId x = context.node.inputs[0];
  const ValueId w = context.node.inputs[1];
  const ValueId dy = context.output_gradients[0];
  // The weight's gradient first: x may then give its place to dx.
  if (context.needs(1)) accumulate_gradient(context, 1, Op::linear_dw, {dy, x}, {});
  if (context.needs(2)) accumulate_gradient(context, 2, Op::column_sum, {dy}, {});
  if (context.needs(3)) context.input_gradients[3] = dy;
  if (!context.needs(0)) return;
  std::vector<ValueId> operands{dy, w};
  const ValueId partial = context.partial(0);
  if (exists(partial)) {
    operands.push_back(partial);
    context.took_partial(0);
  }
  const DType to = builder.graph().value(x).type.dtype;
  Attributes attributes;
  if (to != builder.graph().value(dy).type.dtype) attributes.set("dtype", std::string(name_of(to)));
  context.input_gradients[0] = builder.one(Op::linear_dx, std::move(operands),
                                           std::move(attributes), backward_name(context));
}

void embedding_gradient(GradientContext& context) {
  const std::int64_t rows = context.builder.graph().value(context.node.inputs[0]).type.shape[0];
  accumulate_gradient(context, 0, Op::embedding_dw,
                      {context.output_gradients[0], context.node.inputs[1]}, {{"rows", rows}});
}

/// result + acc, in `type`; `result` and the sum are wide.
ValueId finish(Elementary& e, ValueId result, ValueId acc, DType type) {
  if (exists(acc)) result = e.add(result, e.cast(acc, e.dtype(result)));
  return e.cast(result, type);
}

std::vector<ValueId> linear_definition(Builder& builder, const Node& node) {
  Elementary e(builder, node_name(builder, node));
  ValueId y = e.matmul(e.wide(node.inputs[0]), e.wide(node.inputs[1]), false, true);
  const ValueId bias = operand(node, 2);
  if (exists(bias)) y = e.add(y, e.broadcast(e.cast(bias, e.dtype(y)), e.shape(y)));
  return {finish(e, y, operand(node, 3), e.dtype(node.outputs[0]))};
}

std::vector<ValueId> linear_dx_definition(Builder& builder, const Node& node) {
  Elementary e(builder, node_name(builder, node));
  const ValueId dx = e.matmul(e.wide(node.inputs[0]), e.wide(node.inputs[1]));
  return {finish(e, dx, operand(node, 2), e.dtype(node.outputs[0]))};
}

std::vector<ValueId> linear_dw_definition(Builder& builder, const Node& node) {
  Elementary e(builder, node_name(builder, node));
  const ValueId dw = e.matmul(e.wide(node.inputs[0]), e.wide(node.inputs[1]), true, false);
  return {finish(e, dw, operand(node, 2), e.dtype(node.outputs[0]))};
}

std::vector<ValueId> column_sum_definition(Builder& builder, const Node& node) {
  Elementary e(builder, node_name(builder, node));
  const ValueId sum = e.column_sum(e.wide(node.inputs[0]));
  return {finish(e, sum, operand(node, 1), e.dtype(node.outputs[0]))};
}

std::vector<ValueId> embedding_definition(Builder& builder, const Node& node) {
  Elementary e(builder, node_name(builder, node));
  const ValueId table = node.inputs[0];
  return {e.matmul(e.one_hot(node.inputs[1], e.shape(table)[0], e.dtype(table)), table)};
}

std::vector<ValueId> embedding_dw_definition(Builder& builder, const Node& node) {
  Elementary e(builder, node_name(builder, node));
  const ValueId dy = e.wide(node.inputs[0]);
  const ValueId hot = e.one_hot(node.inputs[1], node.attributes.integer("rows"), e.dtype(dy));
  return {finish(e, e.matmul(hot, dy, true, false), operand(node, 2), e.dtype(node.outputs[0]))};
}

constexpr std::array<Aliasing, 1> kLinearAcc{{{0, 3, true}}};
constexpr std::array<Aliasing, 1> kThirdAcc{{{0, 2, true}}};
constexpr std::array<Aliasing, 1> kSecondAcc{{{0, 1, true}}};

}  // namespace

std::span<const OpDef> products() {
  static const std::array table{
      OpDef{.op = Op::matmul,
            .name = "matmul",
            .min_inputs = 2,
            .max_inputs = 2,
            .infer = infer_matmul,
            .cost = cost_matmul,
            .gradient = matmul_gradient},
      OpDef{.op = Op::embedding,
            .name = "embedding",
            .min_inputs = 2,
            .max_inputs = 2,
            .infer = infer_embedding,
            .cost = cost_embedding,
            .gradient = embedding_gradient,
            .definition = embedding_definition,
            .cheap = true},
      OpDef{.op = Op::embedding_dw,
            .name = "embedding_dw",
            .min_inputs = 2,
            .max_inputs = 4,
            .infer = infer_embedding_dw,
            .cost = cost_column_sum,
            .definition = embedding_dw_definition,
            .aliasing = kThirdAcc,
            .precision = Precision::keep,
            .accumulator = 2},
  };
  return table;
}

std::span<const OpDef> linears() {
  static const std::array table{
      OpDef{.op = Op::linear,
            .name = "linear",
            .min_inputs = 2,
            .max_inputs = 4,
            .infer = infer_linear,
            .cost = cost_product,
            .gradient = linear_gradient,
            .definition = linear_definition,
            .aliasing = kLinearAcc,
            .accumulator = 3},
      OpDef{.op = Op::linear_dx,
            .name = "linear_dx",
            .min_inputs = 2,
            .max_inputs = 3,
            .infer = infer_linear_dx,
            .cost = cost_product,
            .definition = linear_dx_definition,
            .aliasing = kThirdAcc,
            .accumulator = 2},
      OpDef{.op = Op::linear_dw,
            .name = "linear_dw",
            .min_inputs = 2,
            .max_inputs = 4,
            .infer = infer_linear_dw,
            .cost = cost_product,
            .definition = linear_dw_definition,
            .aliasing = kThirdAcc,
            .precision = Precision::keep,
            .accumulator = 2},
      OpDef{.op = Op::column_sum,
            .name = "column_sum",
            .min_inputs = 1,
            .max_inputs = 3,
            .infer = infer_column_sum,
            .cost = cost_column_sum,
            .definition = column_sum_definition,
            .aliasing = kSecondAcc,
            .precision = Precision::keep,
            .accumulator = 1},
  };
  return table;
}

}  // namespace snug::rows
