// Shape rules, costs and what the builder makes of aliasing.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ir/builder.h"
#include "support/op_cases.h"

namespace snug::test {
namespace {

using testing::HasSubstr;

using Types = std::vector<TensorType>;

std::vector<TensorType> infer(Op op, const Types& inputs, const Attributes& attributes = {}) {
  std::vector<const TensorType*> pointers;
  for (const TensorType& type : inputs) pointers.push_back(&type);
  return infer_types({op, pointers, attributes});
}

std::string refusal(Op op, const Types& inputs, const Attributes& attributes = {}) {
  try {
    infer(op, inputs, attributes);
  } catch (const InternalError& error) {
    return error.what();
  }
  return "accepted";
}

TensorType f(Shape shape) { return {DType::f32, shape}; }
TensorType b(Shape shape) { return {DType::bf16, shape}; }
TensorType n(Shape shape) { return {DType::i32, shape}; }
AttributeValue number(std::int64_t value) { return value; }

struct Refused {
  Op op;
  Types inputs;
  Attributes attributes = {};
};

Attributes to_f32() { return {{"dtype", "f32"}}; }
Attributes heads() { return {{"scale", 1.0}, {"window", std::int64_t{0}}}; }
/// An update of f32[2] with a master.
Types adamw_operands(const TensorType& gradient, const TensorType& v, const TensorType& c2) {
  return {f({2}),           gradient, f({2}), f({}), f({}), {DType::i32, {}},
          {DType::i64, {}}, f({2}),   v,      f({}), c2};
}

Attributes adam() { return {{"beta1", 0.9}, {"beta2", 0.9}, {"eps", 0.1}, {"weight_decay", 0.1}}; }

std::vector<Refused> refused_nodes() {
  return {
      {Op::add, {f({2}), f({3})}},
      {Op::add, {f({2}), b({2})}},
      {Op::add, {n({2}), n({2})}},
      {Op::add, {f({2})}},
      {Op::exp, {n({2})}},
      {Op::reduce_sum, {f({2})}, {{"axis", number(1)}}},
      {Op::broadcast, {f({2})}, {{"shape", "3"}}},
      {Op::reshape, {f({2, 3})}, {{"shape", "5"}}},
      {Op::permute, {f({2, 3})}, {{"order", "0,0"}}},
      {Op::slice, {f({2})}, {{"axis", number(0)}, {"begin", number(1)}, {"end", number(3)}}},
      {Op::concat, {f({2, 3}), f({2, 4})}, {{"axis", number(0)}}},
      {Op::matmul, {f({2, 3}), f({2, 3})}},
      {Op::matmul, {f({2, 3, 4}), f({1, 4, 2})}},
      {Op::one_hot, {f({2})}, {{"depth", number(3)}, {"dtype", "f32"}}},
      {Op::view, {f({6})}, {{"offset", number(1)}, {"shape", "6"}}},
      {Op::view, {f({6})}, {{"offset", number(0)}, {"shape", "2,3"}, {"row_stride", number(4)}}},
      {Op::embedding, {f({5, 3}), f({2})}},
      {Op::embedding_dw, {f({4, 3}), n({3})}, {{"dtype", "f32"}, {"rows", number(5)}}},
      {Op::linear, {f({2, 3}), f({4, 2})}},
      {Op::linear, {f({2, 3}), f({4, 3}), f({3})}},
      {Op::linear_dx, {f({2, 4}), f({3, 4})}},
      {Op::linear_dx, {f({2, 4}), f({4, 3}), b({2, 3})}},
      {Op::linear_dw, {f({2, 4}), f({3, 3})}, to_f32()},
      {Op::linear_dw, {f({2, 4}), f({2, 3}), f({3, 4})}, to_f32()},
      {Op::linear_dw, {f({2, 4}), f({2, 3}), f({4, 3}), {DType::i64, {}}}, to_f32()},
      {Op::column_sum, {f({2, 4}), f({2})}, to_f32()},
      {Op::rms_norm, {f({2, 4}), f({2})}, {{"eps", 0.1}}},
      {Op::rms_norm, {f({2, 4}), f({4})}},
      {Op::silu_mul, {f({2}), f({3})}},
      {Op::rope, {f({2, 1, 4}), f({5, 4}), f({5, 4}), n({2})}},
      {Op::rope, {f({2, 1, 4}), f({5, 2}), f({5, 2}), n({3})}},
      {Op::attention, {f({2, 3, 4}), f({2, 2, 4}), f({2, 2, 4}), n({2})}, heads()},
      {Op::attention, {f({2, 2, 4}), f({3, 2, 4}), f({3, 2, 4}), n({2})}, heads()},
      {Op::attention_cached, {f({2, 2, 4}), f({3, 2, 4}), f({3, 2, 4}), n({2})}, heads()},
      {Op::cache_write, {f({2, 1, 4}), f({3, 1, 4}), n({})}},
      {Op::write_rows, {f({4, 3}), f({2, 3})}, {{"begin", number(3)}}},
      {Op::write_rows, {f({4, 3}), f({2, 2})}, {{"begin", number(0)}}},
      {Op::unscale_norm, {f({}), n({})}, {{"max_norm", 1.0}}},
      {Op::head_loss, {f({2, 3}), f({5, 4}), n({2})}},
      {Op::head_loss_grad, {f({2, 3}), f({5, 3}), n({2}), b({})}},
      {Op::global_norm, {n({2})}, {{"max_norm", 1.0}}},
      {Op::global_norm, {}, {{"max_norm", 1.0}}},
      {Op::apply_gate, {f({}), n({})}},
      {Op::adamw, adamw_operands(f({3}), f({2}), f({})), adam()},
      {Op::adamw, adamw_operands(f({2}), f({3}), f({})), adam()},
      {Op::adamw, adamw_operands(f({2}), f({2}), n({})), adam()},
      {Op::adamw_8bit, adamw_operands(f({2}), f({2}), f({})), adam()},
      {Op::copy_wait, {f({2}), f({})}},
  };
}

TEST(OpShapes, OperandsThatDoNotFitAreRefused) {
  for (const Refused& r : refused_nodes()) {
    const std::string text = refusal(r.op, r.inputs, r.attributes);
    EXPECT_THAT(text, HasSubstr(op_def(r.op).name)) << text;
    for (const TensorType& type : r.inputs) EXPECT_THAT(text, HasSubstr(type.to_string()));
  }
}

TEST(OpShapes, RequiredOperandsMayNotBeAbsent) {
  for (const OpCase& c : op_cases()) {
    const CaseGraph built = build_case(c);
    Node node = built.graph.nodes.front();
    for (int i = 0; i < op_def(c.op).min_inputs; ++i) {
      const ValueId kept = node.inputs[static_cast<std::size_t>(i)];
      node.inputs[static_cast<std::size_t>(i)] = kNoValue;
      const auto types = operand_types(built.graph, node);
      EXPECT_THROW(infer_types({c.op, types, node.attributes}), InternalError)
          << op_def(c.op).name << " without operand " << i;
      node.inputs[static_cast<std::size_t>(i)] = kept;
    }
  }
}

TEST(OpShapes, DtypeAttributeDecides) {
  EXPECT_EQ(infer(Op::linear, {b({2, 3}), b({4, 3})})[0], b({2, 4}));
  EXPECT_EQ(infer(Op::linear, {b({2, 3}), b({4, 3})}, to_f32())[0], f({2, 4}));
  EXPECT_EQ(infer(Op::linear_dw, {b({2, 4}), b({2, 3})}, to_f32())[0], f({4, 3}));
  EXPECT_EQ(infer(Op::head_loss, {b({2, 3}), b({5, 3}), n({2})})[0], f({}));
  const auto results = infer(Op::head_loss_grad, {b({2, 3}), b({5, 3}), n({2}), f({})}, to_f32());
  EXPECT_EQ(results, (Types{f({}), b({2, 3}), f({5, 3})}));
}

TEST(OpShapes, AdamwGivesTheStatesItTakes) {
  Types inputs = adamw_operands(b({2}), f({2}), f({}));
  inputs[kUpdateWeight] = b({2});
  EXPECT_EQ(infer(Op::adamw, inputs, adam()), (Types{b({2}), f({2}), f({2}), f({2})}));
}

OpCost cost(Op op, const Types& inputs, const Attributes& attributes = {}) {
  std::vector<const TensorType*> pointers;
  for (const TensorType& type : inputs) pointers.push_back(&type);
  const OpArguments arguments{op, pointers, attributes};
  return op_def(op).cost(arguments, infer_types(arguments));
}

TEST(OpCosts, ProductsCountMultiplyAdds) {
  EXPECT_EQ(cost(Op::linear, {b({5, 3}), b({4, 3})}).flops, 2 * 5 * 3 * 4);
  EXPECT_EQ(cost(Op::linear_dx, {b({5, 4}), b({4, 3})}).flops, 2 * 5 * 3 * 4);
  EXPECT_EQ(cost(Op::linear_dw, {b({5, 4}), b({5, 3})}, to_f32()).flops, 2 * 5 * 3 * 4);
  EXPECT_EQ(cost(Op::linear, {b({5, 3}), b({4, 3})}).bytes, 2 * (5 * 3 + 4 * 3 + 5 * 4));
  EXPECT_EQ(cost(Op::matmul, {f({2, 3, 4}), f({2, 4, 5})}).flops, 2 * 2 * 3 * 4 * 5);
  EXPECT_EQ(cost(Op::head_loss, {b({5, 3}), b({7, 3}), n({5})}).flops, 2 * 5 * 3 * 7);
}

TEST(OpCosts, AttentionCountsVisiblePairs) {
  const Types inputs{b({8, 2, 4}), b({8, 1, 4}), b({8, 1, 4}), n({8})};
  const auto pairs = [&](std::int64_t window, std::int64_t length) {
    const auto flops =
        cost(Op::attention, inputs, {{"scale", 1.0}, {"window", window}, {"length", length}}).flops;
    return flops / 32;  // 4 for each element of 2 heads of 4
  };
  EXPECT_EQ(pairs(0, 0), 36);
  EXPECT_EQ(pairs(0, 4), 20);
  EXPECT_EQ(pairs(2, 8), 15);
  EXPECT_EQ(pairs(2, 4), 14);
}

TEST(OpCosts, ViewsCostNothing) {
  const OpCost free = cost(Op::reshape, {f({2, 3})}, {{"shape", "6"}});
  EXPECT_EQ(free.flops, 0);
  EXPECT_EQ(free.bytes, 0);
}

TEST(Builder, ViewsShareTheirBase) {
  Graph graph;
  Builder builder(graph);
  const ValueId x = builder.input("x", f({4, 6}), Role::weight, Scope::run);
  const ValueId rows = builder.one(
      Op::view, {x}, {{"offset", number(2)}, {"shape", "4,4"}, {"row_stride", number(6)}}, "rows");
  const ValueId heads = builder.one(Op::reshape, {rows}, {{"shape", "4,2,2"}}, "heads");
  EXPECT_EQ(graph.root(heads), x);
  EXPECT_EQ(graph.row_stride(heads), 6);
  EXPECT_EQ(graph.byte_offset(heads), 8);
  EXPECT_EQ(graph.value(heads).role, Role::weight);
  EXPECT_EQ(graph.value(heads).scope, Scope::run);
  EXPECT_THROW(builder.one(Op::reshape, {rows}, {{"shape", "16"}}, "flat"), InternalError);
}

TEST(Builder, CopiesChangeSpaceAndGiveATokenEach) {
  Graph graph;
  Builder builder(graph);
  const ValueId x = builder.input("x", f({4}), Role::optimizer_state, Scope::call);
  const auto started = builder.emit(Op::copy_start, {x}, {{"space", "host"}}, "copy");
  EXPECT_EQ(graph.value(started[0]).space, Space::host);
  EXPECT_EQ(graph.value(started[0]).role, Role::optimizer_state);
  EXPECT_EQ(graph.value(started[1]).role, Role::token);
  const ValueId ready = builder.one(Op::copy_wait, started, {}, "ready");
  EXPECT_EQ(graph.root(ready), started[0]);
  EXPECT_EQ(graph.value(ready).space, Space::host);
}

}  // namespace
}  // namespace snug::test
