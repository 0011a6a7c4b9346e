// The output head with its cross-entropy.

#include <array>

#include "ir/elementary.h"
#include "ir/op_rows.h"

namespace snug::rows {
namespace {

void check_head(const OpArguments& a) {
  const TensorType& x = in(a, 0);
  const TensorType& w = in(a, 1);
  check_operands(is_float(x.dtype) && is_float(w.dtype), a);
  check_operands(x.shape.rank() == 2 && w.shape.rank() == 2 && x.shape[1] == w.shape[1], a);
  check_operands(is_row_indices(a, 2, x.shape[0]), a);
}

Types infer_head_loss(const OpArguments& a) {
  check_head(a);
  return {{sum_dtype(in(a, 0).dtype), {}}};
}

Types infer_head_loss_grad(const OpArguments& a) {
  check_head(a);
  const TensorType loss{sum_dtype(in(a, 0).dtype), {}};
  check_operands(in(a, 3) == loss, a);
  const TensorType dw{dtype_or(a, in(a, 1).dtype), in(a, 1).shape};
  check_accumulator(a, 4, dw);
  return {loss, in(a, 0), dw};
}

/// `times` products of [T,H] with [V,H].
OpCost cost_head(const OpArguments& a, std::span<const TensorType> outputs, std::int64_t times) {
  return {2 * times * in(a, 0).shape.elements() * in(a, 1).shape[0], traffic(a, outputs)};
}

OpCost cost_head_loss(const OpArguments& a, std::span<const TensorType> outputs) {
  return cost_head(a, outputs, 1);
}

/// In tiles of classes the logits are made twice.
OpCost cost_head_loss_grad(const OpArguments& a, std::span<const TensorType> outputs) {
  const std::int64_t classes = a.attributes.integer_or("chunk_columns", 0);
  const bool twice = classes > 0 && classes < in(a, 1).shape[0];
  return cost_head(a, outputs, (outputs.size() > 2 ? 3 : 2) + (twice ? 1 : 0));
}

/// One visit gives the loss and the gradients: the forward op then has no readers.
void head_loss_gradient(GradientContext& context) {
  const Attributes& attributes = context.node.attributes;
  std::vector<ValueId> operands(context.node.inputs.begin(), context.node.inputs.begin() + 3);
  operands.push_back(context.output_gradients[0]);
  std::vector<ValueId> results;
  if (context.needs(1)) {
    results = accumulate_gradient(context, 1, Op::head_loss_grad, std::move(operands), attributes);
  } else {
    results = context.builder.emit(Op::head_loss_grad, std::move(operands), attributes,
                                   backward_name(context), 2);
  }
  context.replace_output(0, results[0]);
  if (context.needs(0)) context.input_gradients[0] = results[1];
}

void check_adapted(const OpArguments& a) {
  check_head(a);
  const Shape& low = in(a, 3).shape;
  const Shape& up = in(a, 4).shape;
  check_operands(is_float(in(a, 3).dtype) && is_float(in(a, 4).dtype) && low.rank() == 2, a);
  check_operands((low == Shape{in(a, 0).shape[0], low[1]}), a);
  check_operands((up == Shape{in(a, 1).shape[0], low[1]}), a);
}

Types infer_adapted_loss(const OpArguments& a) {
  check_adapted(a);
  return {{sum_dtype(in(a, 0).dtype), {}}};
}

Types infer_adapted_loss_grad(const OpArguments& a) {
  check_adapted(a);
  const TensorType loss{sum_dtype(in(a, 0).dtype), {}};
  check_operands(in(a, 5) == loss, a);
  const TensorType dup{dtype_or(a, in(a, 4).dtype), in(a, 4).shape};
  check_accumulator(a, 6, dup);
  return {loss, in(a, 0), in(a, 3), dup};
}

/// The adapter's products beside the head's.
OpCost cost_adapted(const OpArguments& a, std::span<const TensorType> outputs) {
  const bool gradients = outputs.size() > 1;
  OpCost cost = cost_head(a, outputs, gradients ? 2 : 1);
  cost.flops += (gradients ? 6 : 2) * in(a, 3).shape.elements() * in(a, 4).shape[0];
  return cost;
}

void adapted_loss_gradient(GradientContext& context) {
  check(!context.needs(1), "a head with an adapter is trained in full");
  std::vector<ValueId> operands(context.node.inputs.begin(), context.node.inputs.begin() + 5);
  operands.push_back(context.output_gradients[0]);
  const auto results = accumulate_gradient(context, 4, Op::adapted_head_loss_grad,
                                           std::move(operands), context.node.attributes);
  context.replace_output(0, results[0]);
  if (context.needs(0)) context.input_gradients[0] = results[1];
  if (context.needs(3)) context.input_gradients[3] = results[2];
}

struct Logits {
  ValueId z;      ///< [T, V]
  ValueId hot;    ///< [T, V]: one at the label, rows of ignored tokens 0
  ValueId valid;  ///< [T, 1]: 1 where the label counts
  ValueId lse;    ///< [T, 1]
};

/// x wt
ValueId product(Elementary& e, ValueId x, ValueId w) {
  return e.matmul(e.wide(x), e.wide(w), false, true);
}

Logits logits(Elementary& e, const Node& node) {
  ValueId z = product(e, node.inputs[0], node.inputs[1]);
  if (node.op == Op::adapted_head_loss || node.op == Op::adapted_head_loss_grad) {
    z = e.add(z, product(e, node.inputs[3], node.inputs[4]));
  }
  const ValueId peak = e.stop_gradient(e.reduce_max(z, -1));
  const ValueId powers = e.exp(e.sub(z, e.broadcast(peak, e.shape(z))));
  const ValueId lse = e.add(peak, e.log(e.reduce_sum(powers, -1)));
  const ValueId hot = e.one_hot(node.inputs[2], e.shape(z)[1], e.dtype(z));
  return {z, hot, e.reduce_sum(hot, -1), lse};
}

/// Sum over rows of valid lse - z at the label.
ValueId loss_of(Elementary& e, const Logits& l) {
  const ValueId label = e.reduce_sum(e.mul(l.z, l.hot), -1);
  const ValueId rows = e.sub(e.mul(l.valid, l.lse), label);
  return e.reshape(e.reduce_sum(rows, 0), {});
}

std::vector<ValueId> head_loss_definition(Builder& builder, const Node& node) {
  Elementary e(builder, node_name(builder, node));
  return {loss_of(e, logits(e, node))};
}

/// dz = weight (valid softmax(z) - hot)
ValueId logits_gradient(Elementary& e, const Logits& l, ValueId weight) {
  const Shape shape = e.shape(l.z);
  const ValueId softmax = e.exp(e.sub(l.z, e.broadcast(l.lse, shape)));
  const ValueId rest = e.sub(e.mul(softmax, e.broadcast(l.valid, shape)), l.hot);
  return e.mul(rest, e.broadcast(weight, shape));
}

/// dx = dz W, dlow = dz up, dup = dzt low.
std::vector<ValueId> adapted_loss_grad_definition(Builder& builder, const Node& node) {
  Elementary e(builder, node_name(builder, node));
  const Logits l = logits(e, node);
  const ValueId dz = logits_gradient(e, l, node.inputs[5]);
  const auto product_with = [&](ValueId w, ValueId like) {
    return e.cast(e.matmul(dz, e.wide(w)), e.dtype(like));
  };
  ValueId dup = e.matmul(dz, e.wide(node.inputs[3]), true, false);
  const ValueId acc = operand(node, 6);
  if (exists(acc)) dup = e.add(dup, e.cast(acc, e.dtype(dup)));
  return {loss_of(e, l), product_with(node.inputs[1], node.inputs[0]),
          product_with(node.inputs[4], node.inputs[3]), e.cast(dup, e.dtype(node.outputs[3]))};
}

/// dx = dz W, dw = dzt x.
std::vector<ValueId> head_loss_grad_definition(Builder& builder, const Node& node) {
  Elementary e(builder, node_name(builder, node));
  const Logits l = logits(e, node);
  const ValueId dz = logits_gradient(e, l, node.inputs[3]);
  const ValueId dx = e.matmul(dz, e.wide(node.inputs[1]));
  std::vector<ValueId> results{loss_of(e, l), e.cast(dx, e.dtype(node.inputs[0]))};
  if (node.outputs.size() < 3) return results;
  ValueId dw = e.matmul(dz, e.wide(node.inputs[0]), true, false);
  const ValueId acc = operand(node, 4);
  if (exists(acc)) dw = e.add(dw, e.cast(acc, e.dtype(dw)));
  results.push_back(e.cast(dw, e.dtype(node.outputs[2])));
  return results;
}

constexpr std::array<Aliasing, 1> kGradientAcc{{{2, 4, true}}};
constexpr std::array<Aliasing, 1> kAdapterAcc{{{3, 6, true}}};

}  // namespace

std::span<const OpDef> losses() {
  static const std::array table{
      OpDef{.op = Op::head_loss,
            .name = "head_loss",
            .min_inputs = 3,
            .max_inputs = 3,
            .infer = infer_head_loss,
            .cost = cost_head_loss,
            .gradient = head_loss_gradient,
            .definition = head_loss_definition,
            .precision = Precision::keep},
      OpDef{.op = Op::head_loss_grad,
            .name = "head_loss_grad",
            .min_inputs = 4,
            .max_inputs = 6,
            .min_outputs = 2,
            .max_outputs = 3,
            .infer = infer_head_loss_grad,
            .cost = cost_head_loss_grad,
            .definition = head_loss_grad_definition,
            .aliasing = kGradientAcc,
            .precision = Precision::keep,
            .accumulator = 4},
      OpDef{.op = Op::adapted_head_loss,
            .name = "adapted_head_loss",
            .min_inputs = 5,
            .max_inputs = 5,
            .infer = infer_adapted_loss,
            .cost = cost_adapted,
            .gradient = adapted_loss_gradient,
            .definition = head_loss_definition,
            .precision = Precision::keep},
      OpDef{.op = Op::adapted_head_loss_grad,
            .name = "adapted_head_loss_grad",
            .min_inputs = 6,
            .max_inputs = 8,
            .min_outputs = 4,
            .max_outputs = 4,
            .infer = infer_adapted_loss_grad,
            .cost = cost_adapted,
            .definition = adapted_loss_grad_definition,
            .aliasing = kAdapterAcc,
            .precision = Precision::keep,
            .accumulator = 6},
  };
  return table;
}

}  // namespace snug::rows
