// Attention over documents, its gradient, and attention over a cache.

#include <algorithm>
#include <array>

#include "ir/elementary.h"
#include "ir/op_rows.h"

namespace snug::rows {
namespace {

/// q [T,h,d] with k and v [S,g,d], g dividing h, all of one float type.
void check_heads(const OpArguments& a) {
  const TensorType& q = in(a, 0);
  const TensorType& k = in(a, 1);
  check_operands(is_float(q.dtype) && q.shape.rank() == 3 && k.shape.rank() == 3, a);
  check_operands(q.dtype == k.dtype && q.shape[2] == k.shape[2] && k == in(a, 2), a);
  check_operands(k.shape[1] > 0 && q.shape[1] % k.shape[1] == 0, a);
  check_operands(a.attributes.has("scale") && a.attributes.has("window"), a);
}

void check_documents(const OpArguments& a) {
  check_heads(a);
  check_operands(in(a, 0).shape[0] == in(a, 1).shape[0], a);
  check_operands(is_row_indices(a, 3, in(a, 0).shape[0]), a);
}

TensorType lse_type(const OpArguments& a) {
  const TensorType& q = in(a, 0);
  return {sum_dtype(q.dtype), {q.shape[1], q.shape[0]}};
}

Types infer_attention(const OpArguments& a) {
  check_documents(a);
  return {in(a, 0), lse_type(a)};
}

Types infer_attention_grad(const OpArguments& a) {
  check_documents(a);
  const TensorType& q = in(a, 0);
  check_operands(in(a, 4) == q && in(a, 5) == lse_type(a) && in(a, 6) == q, a);
  return {q, in(a, 1), in(a, 2)};
}

Types infer_attention_cached(const OpArguments& a) {
  check_heads(a);
  check_operands(in(a, 3) == TensorType{DType::i32, {}}, a);
  return {in(a, 0)};
}

Types infer_cache_write(const OpArguments& a) {
  const TensorType& cache = in(a, 0);
  const TensorType& x = in(a, 1);
  check_operands(cache.dtype == x.dtype && cache.shape.rank() == 3 && x.shape.rank() == 3, a);
  check_operands(cache.shape[1] == x.shape[1] && cache.shape[2] == x.shape[2], a);
  check_operands(x.shape[0] <= cache.shape[0] && in(a, 2) == TensorType{DType::i32, {}}, a);
  return {cache};
}

/// Query-key pairs of one head: documents of the longest length allowed, each token seeing at most
/// `window` before it.
std::int64_t visible_pairs(const OpArguments& a) {
  const std::int64_t tokens = in(a, 0).shape[0];
  const std::int64_t given = a.attributes.integer_or("length", 0);
  const std::int64_t length = given > 0 ? std::min(given, tokens) : tokens;
  const std::int64_t window = a.attributes.integer("window");
  const std::int64_t reach = window > 0 ? std::min(window, length) : length;
  // The first `reach` tokens of a document see 1, 2, ... reach tokens, the others `reach`.
  const std::int64_t each = reach * (reach + 1) / 2 + (length - reach) * reach;
  return (tokens + length - 1) / length * each;
}

/// `times` multiply-adds for each visible pair and element of a head.
template <std::int64_t times>
OpCost cost_pairs(const OpArguments& a, std::span<const TensorType> outputs) {
  const Shape& q = in(a, 0).shape;
  return {2 * times * visible_pairs(a) * q[1] * q[2], traffic(a, outputs)};
}

OpCost cost_attention_cached(const OpArguments& a, std::span<const TensorType> outputs) {
  return {4 * in(a, 0).shape.elements() * in(a, 1).shape[0], traffic(a, outputs)};
}

/// Only the rows written.
OpCost cost_cache_write(const OpArguments& a, std::span<const TensorType>) {
  return {0, 2 * in(a, 1).bytes()};
}

void attention_gradient(GradientContext& context) {
  const Node& node = context.node;
  check(!exists(context.output_gradients[1]),
        "a gradient flows into the log-sum-exp of attention '{}'",
        node_name(context.builder, node));
  const std::vector<ValueId> gradients =
      context.builder.emit(Op::attention_grad,
                           {node.inputs[0], node.inputs[1], node.inputs[2], node.inputs[3],
                            node.outputs[0], node.outputs[1], context.output_gradients[0]},
                           node.attributes, backward_name(context));
  for (int i = 0; i < 3; ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (context.needs(i)) context.input_gradients[at] = gradients[at];
  }
}

/// Heads first, those of one key/value head together: [T, h, d] -> [g, (h/g) T, d].
ValueId grouped(Elementary& e, ValueId x, std::int64_t groups) {
  const Shape shape = e.shape(x);
  return e.reshape(e.permute(e.wide(x), "1,0,2"), {groups, shape[1] / groups * shape[0], shape[2]});
}

/// Back: [g, (h/g) T, d] -> [T, h, d] in `to`'s type.
ValueId ungrouped(Elementary& e, ValueId x, ValueId to) {
  const Shape shape = e.shape(to);
  const ValueId heads = e.reshape(x, {shape[1], shape[0], shape[2]});
  return e.cast(e.permute(heads, "1,0,2"), e.dtype(to));
}

/// Masked scores [h, T, T].
ValueId scores(Elementary& e, const Node& node, ValueId q, ValueId k) {
  const Shape shape = e.shape(node.inputs[0]);
  const Shape to{shape[1], shape[0], shape[0]};
  const ValueId product = e.scale(e.matmul(q, k, false, true), node.attributes.real("scale"));
  const ValueId mask =
      e.document_mask(node.inputs[3], node.attributes.integer("window"), e.dtype(q));
  return e.add(e.reshape(product, to), e.broadcast(mask, to));
}

std::vector<ValueId> attention_definition(Builder& builder, const Node& node) {
  Elementary e(builder, node_name(builder, node));
  const Shape shape = e.shape(node.inputs[0]);
  const std::int64_t groups = e.shape(node.inputs[1])[1];
  const ValueId q = grouped(e, node.inputs[0], groups);
  const ValueId k = grouped(e, node.inputs[1], groups);
  const ValueId v = grouped(e, node.inputs[2], groups);
  const ValueId s = scores(e, node, q, k);
  const ValueId peak = e.stop_gradient(e.reduce_max(s, -1));
  const ValueId powers = e.exp(e.sub(s, e.broadcast(peak, e.shape(s))));
  const ValueId sum = e.reduce_sum(powers, -1);
  const ValueId p = e.div(powers, e.broadcast(sum, e.shape(s)));
  const ValueId rows = e.reshape(p, {groups, shape[1] / groups * shape[0], shape[0]});
  const ValueId lse = e.reshape(e.add(peak, e.log(sum)), {shape[1], shape[0]});
  return {ungrouped(e, e.matmul(rows, v), node.inputs[0]), lse};
}

/// P = exp(s - lse), dS = P (dO Vt - rowsum(dO O)), dQ = c dS K, dK = c dSt Q, dV = Pt dO.
std::vector<ValueId> attention_grad_definition(Builder& builder, const Node& node) {
  Elementary e(builder, node_name(builder, node));
  const Shape shape = e.shape(node.inputs[0]);
  const std::int64_t groups = e.shape(node.inputs[1])[1];
  const Shape square{shape[1], shape[0], shape[0]};
  const Shape rows{groups, shape[1] / groups * shape[0], shape[0]};
  const ValueId q = grouped(e, node.inputs[0], groups);
  const ValueId k = grouped(e, node.inputs[1], groups);
  const ValueId v = grouped(e, node.inputs[2], groups);
  const ValueId o = grouped(e, node.inputs[4], groups);
  const ValueId d_o = grouped(e, node.inputs[6], groups);
  const ValueId lse = e.reshape(node.inputs[5], {shape[1], shape[0], 1});
  const ValueId p = e.reshape(e.exp(e.sub(scores(e, node, q, k), e.broadcast(lse, square))), rows);
  const ValueId dp = e.matmul(d_o, v, false, true);
  const ValueId dot = e.broadcast(e.reduce_sum(e.mul(d_o, o), -1), rows);
  const ValueId ds = e.scale(e.mul(p, e.sub(dp, dot)), node.attributes.real("scale"));
  return {ungrouped(e, e.matmul(ds, k), node.inputs[0]),
          ungrouped(e, e.matmul(ds, q, true, false), node.inputs[1]),
          ungrouped(e, e.matmul(p, d_o, true, false), node.inputs[2])};
}

constexpr std::array<Aliasing, 1> kVersion{{{0, 0, true}}};

}  // namespace

std::span<const OpDef> attentions() {
  static const std::array table{
      OpDef{.op = Op::attention,
            .name = "attention",
            .min_inputs = 4,
            .max_inputs = 4,
            .min_outputs = 2,
            .max_outputs = 2,
            .infer = infer_attention,
            .cost = cost_pairs<2>,
            .gradient = attention_gradient,
            .definition = attention_definition},
      OpDef{.op = Op::attention_grad,
            .name = "attention_grad",
            .min_inputs = 7,
            .max_inputs = 7,
            .min_outputs = 3,
            .max_outputs = 3,
            .infer = infer_attention_grad,
            .cost = cost_pairs<5>,
            .definition = attention_grad_definition},
      OpDef{.op = Op::attention_cached,
            .name = "attention_cached",
            .min_inputs = 4,
            .max_inputs = 4,
            .infer = infer_attention_cached,
            .cost = cost_attention_cached},
      OpDef{.op = Op::cache_write,
            .name = "cache_write",
            .min_inputs = 3,
            .max_inputs = 3,
            .infer = infer_cache_write,
            .cost = cost_cache_write,
            .aliasing = kVersion},
  };
  return table;
}

}  // namespace snug::rows
