#include "backend/reference/reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "ir/elementary.h"
#include "ir/rope.h"
#include "support/interpret.h"
#include "support/op_cases.h"

namespace snug::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using Numbers = std::vector<double>;

std::string error_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const InternalError& error) {
    return error.what();
  }
  return "";
}

/// Outputs y0, y1, ... of a case's node whose operands are `inputs`.
std::vector<Numbers> run_case(const CaseGraph& built, const Graph& graph) {
  Interpreter run(graph);
  for (std::size_t i = 0; i < built.values.size(); ++i) {
    run.set(built.input_name(i), built.values[i]);
  }
  run.run();
  std::vector<Numbers> results;
  for (std::size_t i = 0; i < built.outputs.size(); ++i) {
    results.push_back(run.get(fmt::format("y{}", i)));
  }
  return results;
}

/// The case's graph with `prepare` between its inputs and its node.
Graph prepared(const CaseGraph& built, const std::function<ValueId(Builder&, ValueId)>& prepare) {
  Graph graph = built.graph;
  std::vector<Node> before;
  Builder builder(graph, before);
  for (ValueId& id : graph.nodes.front().inputs) {
    if (!exists(id)) continue;
    const ValueId replaced = prepare(builder, id);
    for (const ValueId out : graph.nodes.front().outputs) {
      if (graph.value(out).base == id) {
        graph.value(out).base = replaced;
        graph.value(out).row_stride = graph.value(replaced).row_stride;
        graph.value(out).offset = 0;
      }
    }
    id = replaced;
  }
  graph.nodes.insert(graph.nodes.begin(), before.begin(), before.end());
  return graph;
}

TEST(Reference, EveryOpThatRunsHasOneKernel) {
  const ReferenceBackend backend;
  for (int i = 0; i < static_cast<int>(Op::count_); ++i) {
    const OpDef& row = op_def(static_cast<Op>(i));
    ASSERT_EQ(backend.kernels(row.op).size(), row.view ? 0U : 1U) << row.name;
    if (row.view) continue;
    EXPECT_EQ(backend.kernels(row.op)[0]->op, row.op);
    EXPECT_EQ(backend.kernels(row.op)[0]->name, fmt::format("reference_{}", row.name));
  }
}

TEST(Reference, OutputsMayLieOnOperands) {
  for (const OpCase& c : op_cases()) {
    SCOPED_TRACE(op_def(c.op).name);
    const CaseGraph built = build_case(c);
    const Graph in_place = prepared(built, [](Builder& builder, ValueId id) {
      return builder.one(Op::copy, {id}, {}, "copy");
    });
    EXPECT_EQ(run_case(built, built.graph), run_case(built, in_place));
    const Liveness live = analyse_liveness(in_place);
    for (const Aliasing& alias : op_def(c.op).aliasing) {
      const Node& node = in_place.nodes.back();
      const ValueId in = alias.input < static_cast<int>(node.inputs.size())
                             ? node.inputs[static_cast<std::size_t>(alias.input)]
                             : kNoValue;
      if (alias.output > 0 || alias.input > 0 || !exists(in)) continue;
      EXPECT_EQ(live.interval_of[static_cast<std::size_t>(in)],
                live.interval_of[static_cast<std::size_t>(node.outputs[0])]);
    }
  }
}

TEST(Reference, RowStridesAreHonoured) {
  for (const OpCase& c : op_cases()) {
    if (op_def(c.op).view) continue;  // joins rows
    SCOPED_TRACE(op_def(c.op).name);
    const CaseGraph built = build_case(c);
    const Graph strided = prepared(built, [](Builder& builder, ValueId id) {
      const TensorType type = builder.graph().value(id).type;
      if (type.shape.rank() < 2) return id;
      // Each row in the middle of a wider row of 1s.
      const std::int64_t rows = type.shape[0];
      const std::int64_t row = type.shape.elements() / rows;
      Elementary e(builder, "wide");
      const ValueId flat = e.reshape(id, {rows, row});
      const ValueId ones = e.fill(1.0, {type.dtype, {rows, 2}});
      const ValueId wide = e.concat(e.concat(ones, flat, 1), ones, 1);
      return builder.one(
          Op::view, {wide},
          {{"offset", std::int64_t{2}}, {"shape", shape_text(type.shape)}, {"row_stride", row + 4}},
          "row");
    });
    EXPECT_EQ(run_case(built, built.graph), run_case(built, strided));
  }
}

/// One node on f32 or other operands given as numbers.
class OneNode {
 public:
  explicit OneNode(Op op) : op_(op) {}
  OneNode& in(DType type, Shape shape, Numbers numbers) {
    ids_.push_back(Builder(graph_).input(fmt::format("in{}", ids_.size()), {type, shape},
                                         Role::activation, Scope::call));
    values_.push_back(std::move(numbers));
    return *this;
  }
  OneNode& absent() {
    ids_.push_back(kNoValue);
    values_.emplace_back();
    return *this;
  }
  std::vector<Numbers> run(const Attributes& attributes, int output_count = -1) {
    Graph copy = graph_;
    Builder builder(copy);
    copy.outputs = builder.emit(op_, ids_, attributes, "y", output_count);
    Interpreter interpreter(copy);
    for (std::size_t i = 0; i < ids_.size(); ++i) {
      if (exists(ids_[i])) interpreter.set(fmt::format("in{}", i), values_[i]);
    }
    interpreter.run();
    std::vector<Numbers> results;
    for (const ValueId id : copy.outputs) results.push_back(interpreter.get(copy.value(id).name));
    return results;
  }

 private:
  Op op_;
  Graph graph_;
  std::vector<ValueId> ids_;
  std::vector<Numbers> values_;
};

Attributes adamw_attributes() {
  return {{"beta1", 0.9}, {"beta2", 0.999}, {"eps", 1e-8}, {"weight_decay", 0.1}};
}

/// One step at lr 0.1 from {weight, m, v}.
std::vector<Numbers> adamw_step(DType type, const std::vector<Numbers>& state,
                                const Numbers& gradient, int t, int apply = 1) {
  const Shape shape{2, 2};
  OneNode node(Op::adamw);
  node.in(type, shape, state[0]).in(type, shape, gradient).absent().in(DType::f32, {}, {0.1});
  node.absent().in(DType::i32, {}, {static_cast<double>(apply)}).absent();
  node.in(type, shape, state[1]).in(type, shape, state[2]);
  node.in(DType::f32, {}, {1.0 - std::pow(0.9, t)}).in(DType::f32, {}, {1.0 - std::pow(0.999, t)});
  return node.run(adamw_attributes());
}

TEST(Reference, AdamWGivesTorchsNumbers) {
  for (const DType type : {DType::f64, DType::f32}) {
    std::vector<Numbers> state{{1, -2, .5, .25}, Numbers(4, 0.0), Numbers(4, 0.0)};
    state = adamw_step(type, state, {.1, -.2, .3, .4}, 1);
    state = adamw_step(type, state, {-.05, .1, .2, -.4}, 2);
    // torch.optim.AdamW in fp64. The scalars lr and 1 - beta^t are fp32: 1 - 0.999^t has a relative
    // error of 3e-8 / 1e-3.
    const Numbers expected{.85446631, -1.8345663, .29401479, .15128816};
    for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(state[0][i], expected[i], 4e-6);
  }
}

TEST(Reference, AdamWSkipsAsAWhole) {
  const std::vector<Numbers> state{{1, -2, .5, .25}, {1, 2, 3, 4}, {5, 6, 7, 8}};
  EXPECT_EQ(adamw_step(DType::f32, state, Numbers(4, NAN), 1, 0), state);
}

TEST(Reference, AdamWWithMasterRoundsTheWeightToNearest) {
  const Shape shape{1};
  OneNode node(Op::adamw);
  node.in(DType::bf16, shape, {7.0}).in(DType::bf16, shape, {0.5}).in(DType::f32, shape, {1.0});
  node.in(DType::f32, {}, {0.001}).absent().absent().absent();
  node.in(DType::f32, shape, {0.0}).in(DType::f32, shape, {0.0});
  node.in(DType::f32, {}, {0.1}).in(DType::f32, {}, {0.001});
  Attributes attributes = adamw_attributes();
  attributes.set("weight_decay", 0.0);
  const auto results = node.run(attributes);
  EXPECT_NEAR(results[3][0], 0.999, 1e-6);
  EXPECT_EQ(results[0][0], 1.0);  // bf16 steps by 1/256 below 1
}

TEST(Reference, AdamWRoundsStatesStochastically) {
  const Shape shape{3};
  OneNode node(Op::adamw);
  const Numbers weight{1.0, 2.0, 3.0};
  node.in(DType::bf16, shape, weight).in(DType::bf16, shape, Numbers(3, 0.5)).absent();
  node.in(DType::f32, {}, {0.001}).absent().absent().in(DType::i64, {}, {12.0});
  node.in(DType::bf16, shape, Numbers(3, 0.0)).in(DType::bf16, shape, Numbers(3, 0.0));
  node.in(DType::f32, {}, {0.1}).in(DType::f32, {}, {0.001});
  Attributes attributes = adamw_attributes();
  attributes.set("weight_decay", 0.0);
  attributes.set("seed", std::int64_t{4});
  attributes.set("stream", std::int64_t{77});
  const auto results = node.run(attributes);
  const float g = 0.5F;
  const float m = static_cast<float>(1.0 - static_cast<double>(0.9F)) * g;
  for (std::uint64_t i = 0; i < 3; ++i) {
    const RandomStream bits{.seed = 4, .stream = 77, .step = 12, .part = 1};
    EXPECT_EQ(
        results[1][i],
        static_cast<double>(static_cast<float>(BFloat16::round_stochastic(m, bits.bits16(i)))));
  }
}

TEST(Reference, GradientsAddUpStochastically) {
  const std::int64_t columns = 64;
  OneNode node(Op::column_sum);
  node.in(DType::bf16, {2, columns}, Numbers(2 * columns, 0.0009765625));
  node.in(DType::bf16, {columns}, Numbers(columns, 1.0)).in(DType::i64, {}, {(1LL << 33) + 3.0});
  const auto y =
      node.run({{"dtype", "bf16"}, {"seed", std::int64_t{1}}, {"stream", std::int64_t{2}}})[0];
  int up = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const RandomStream bits{.seed = 1, .stream = 2, .step = 3, .part = 2};
    EXPECT_EQ(y[i], static_cast<double>(static_cast<float>(
                        BFloat16::round_stochastic(1.001953125F, bits.bits16(i)))));
    up += y[i] > 1.0 ? 1 : 0;
  }
  // 1 + 1/512 lies a quarter of the way to the next bf16: 16 of 64 expected, 5 sigma = 17.
  EXPECT_GT(up, 0);
  EXPECT_LT(up, 34);
}

TEST(Reference, GlobalNormClipsAsTorch) {
  OneNode node(Op::global_norm);
  node.in(DType::f32, {1}, {3.0}).in(DType::bf16, {1, 1}, {4.0});
  const auto clipped = node.run({{"max_norm", 1.0}});
  EXPECT_EQ(clipped[0][0], 5.0);
  EXPECT_NEAR(3.0 * clipped[1][0], 0.59999990, 5e-8);
  EXPECT_EQ(clipped[2][0], 1.0);
  EXPECT_EQ(node.run({{"max_norm", 0.0}})[1][0], 1.0);
  EXPECT_EQ(node.run({{"max_norm", 10.0}})[1][0], 1.0);
}

TEST(Reference, GlobalNormSeesWhatIsNotFinite) {
  for (const double bad : {std::numeric_limits<double>::infinity(), std::nan("")}) {
    OneNode node(Op::global_norm);
    node.in(DType::f32, {2}, {1.0, bad});
    EXPECT_EQ(node.run({{"max_norm", 1.0}})[2][0], 0.0);
  }
  for (const double finite : {0.0, 1.0}) {
    OneNode gate(Op::apply_gate);
    gate.in(DType::i32, {}, {finite}).in(DType::i32, {}, {1.0});
    EXPECT_EQ(gate.run({})[0][0], finite);
  }
}

Numbers ramp(std::int64_t count, double step) {
  Numbers values;
  for (std::int64_t i = 0; i < count; ++i)
    values.push_back(std::sin(step * static_cast<double>(i)));
  return values;
}

TEST(Reference, CachedAttentionSeesWhatAttentionSees) {
  for (const std::int64_t window : {0, 2}) {
    const Attributes attributes{{"scale", 0.5}, {"window", window}};
    const std::int64_t tokens = 4;
    const Numbers q = ramp(tokens * 2 * 3, 0.7);
    const Numbers k = ramp(tokens * 3, 1.1);
    const Numbers v = ramp(tokens * 3, 1.9);
    OneNode whole(Op::attention);
    whole.in(DType::f64, {tokens, 2, 3}, q).in(DType::f64, {tokens, 1, 3}, k);
    whole.in(DType::f64, {tokens, 1, 3}, v).in(DType::i32, {tokens}, Numbers(4, 0.0));
    const Numbers expected = whole.run(attributes)[0];
    // The last two tokens against a cache with a row to spare.
    Numbers keys = k;
    Numbers values = v;
    keys.resize(std::size_t{5} * 3, NAN);
    values.resize(std::size_t{5} * 3, NAN);
    OneNode cached(Op::attention_cached);
    cached.in(DType::f64, {2, 2, 3}, Numbers(q.begin() + 12, q.end()));
    cached.in(DType::f64, {5, 1, 3}, keys).in(DType::f64, {5, 1, 3}, values);
    cached.in(DType::i32, {}, {2.0});
    EXPECT_EQ(cached.run(attributes)[0], Numbers(expected.begin() + 12, expected.end()));
  }
}

TEST(Reference, CacheWriteReplacesRows) {
  OneNode node(Op::cache_write);
  node.in(DType::f32, {3, 1, 2}, {1, 2, 3, 4, 5, 6}).in(DType::f32, {1, 1, 2}, {8, 9});
  node.in(DType::i32, {}, {1.0});
  EXPECT_THAT(node.run({})[0], ElementsAre(1, 2, 8, 9, 5, 6));
}

TEST(Reference, QueryWithoutKeysGivesZero) {
  const Numbers ones(2, 1.0);
  const Attributes attributes{{"scale", 1.0}, {"window", std::int64_t{0}}};
  OneNode node(Op::attention);
  node.in(DType::f32, {2, 1, 1}, ones).in(DType::f32, {2, 1, 1}, ones);
  node.in(DType::f32, {2, 1, 1}, ones).in(DType::i32, {2}, {0.0, 2.0});
  const auto results = node.run(attributes);
  EXPECT_THAT(results[0], ElementsAre(1.0, 0.0));
  EXPECT_EQ(results[1][1], -std::numeric_limits<double>::infinity());
  OneNode grad(Op::attention_grad);
  for (int i = 0; i < 3; ++i) grad.in(DType::f32, {2, 1, 1}, ones);
  grad.in(DType::i32, {2}, {0.0, 2.0}).in(DType::f32, {2, 1, 1}, results[0]);
  grad.in(DType::f32, {1, 2}, results[1]).in(DType::f32, {2, 1, 1}, ones);
  const auto gradients = grad.run(attributes);
  EXPECT_THAT(gradients[0], ElementsAre(0.0, 0.0));
  EXPECT_THAT(gradients[2], ElementsAre(1.0, 0.0));
}

TEST(Reference, RopeFrequenciesAreTransformers) {
  const Attributes attributes{{"half", std::int64_t{8}},
                              {"theta", 500000.0},
                              {"kind", "llama3"},
                              {"factor", 8.0},
                              {"low_freq_factor", 1.0},
                              {"high_freq_factor", 4.0},
                              {"original_positions", std::int64_t{8192}}};
  const Numbers expected{1.000000000e+00, 1.939227581e-01, 3.760603070e-02, 7.292665076e-03,
                         5.248460220e-04, 3.428102355e-05, 6.647869668e-06, 1.289173156e-06};
  for (std::int64_t i = 0; i < 8; ++i) {
    const double value = expected[static_cast<std::size_t>(i)];
    EXPECT_NEAR(rope_frequency(attributes, i), value, 1e-6 * value);
  }
  const Attributes plain{{"half", std::int64_t{2}}, {"theta", 10000.0}};
  EXPECT_EQ(rope_frequency(plain, 1), 0.01);
  const Attributes linear{
      {"half", std::int64_t{2}}, {"theta", 10000.0}, {"kind", "linear"}, {"factor", 4.0}};
  EXPECT_EQ(rope_frequency(linear, 1), 0.0025);
}

TEST(Reference, RopeTableHoldsCosinesAndSines) {
  const auto table =
      OneNode(Op::rope_table)
          .run({{"positions", std::int64_t{3}}, {"half", std::int64_t{2}}, {"theta", 10000.0}});
  EXPECT_NEAR(table[0][5], std::cos(2 * 0.01), 1e-7);
  EXPECT_NEAR(table[1][4], std::sin(2.0), 1e-7);
}

TEST(Reference, BadIndicesAreRefused) {
  OneNode embedding(Op::embedding);
  embedding.in(DType::f32, {2, 1}, {0, 0}).in(DType::i32, {1}, {2.0});
  EXPECT_THAT(error_of([&] { embedding.run({}); }), HasSubstr("token id 2"));
  OneNode head(Op::head_loss);
  head.in(DType::f32, {1, 1}, {0}).in(DType::f32, {2, 1}, {0, 0}).in(DType::i32, {1}, {2.0});
  EXPECT_THAT(error_of([&] { head.run({}); }), HasSubstr("label 2"));
  OneNode cache(Op::cache_write);
  cache.in(DType::f32, {2, 1, 1}, {0, 0}).in(DType::f32, {1, 1, 1}, {0}).in(DType::i32, {}, {2.0});
  EXPECT_THAT(error_of([&] { cache.run({}); }), HasSubstr("position 2"));
}

}  // namespace
}  // namespace snug::test
