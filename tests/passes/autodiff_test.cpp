#include "passes/autodiff.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "ir/builder.h"
#include "ir/text.h"
#include "support/interpret.h"

namespace snug::test {
namespace {

using testing::HasSubstr;

ValueId parameter(Builder& builder, std::string name, const TensorType& type,
                  bool trainable = true) {
  builder.graph().parameters.push_back({.name = name,
                                        .type = type,
                                        .trainable = trainable,
                                        .tied_names = {},
                                        .storage = {{"weight", "plain", name, type}}});
  return builder.input(std::move(name), type, Role::weight, Scope::run);
}

Graph differentiated(Graph graph, DType type, DType gradient_dtype) {
  const DType sums = type == DType::f64 ? DType::f64 : DType::f32;
  const ValueId seed = Builder(graph).input("seed", {sums, {}}, Role::scalar, Scope::run);
  const ValueId loss = graph.find("loss");
  return differentiate(std::move(graph), loss, seed, {.gradient_dtype = gradient_dtype, .seed = 5});
}

std::int64_t count(const Graph& graph, Op op) {
  return std::count_if(graph.nodes.begin(), graph.nodes.end(),
                       [op](const Node& node) { return node.op == op; });
}

const Node& producer(const Graph& graph, std::string_view name) {
  const ValueId id = graph.find(name);
  check(exists(id), "no value '{}'", name);
  return graph.nodes[static_cast<std::size_t>(graph.producers()[static_cast<std::size_t>(id)])];
}

std::string error_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const InternalError& error) {
    return error.what();
  }
  return "";
}

/// embedding, one pre-norm block with biases, tied head: every rule of a training step.
struct SmallModel {
  static constexpr std::int64_t kTokens = 5, kWidth = 4, kHeads = 2, kGroups = 1, kSize = 4,
                                kInner = 3, kVocabulary = 6;

  explicit SmallModel(DType dtype) : type(dtype), builder(graph) {
    const TensorType row{DType::i32, {kTokens}};
    const ValueId ids = builder.input("ids", row, Role::input, Scope::call);
    const ValueId labels = builder.input("labels", row, Role::input, Scope::call);
    start = builder.input("doc_start", row, Role::input, Scope::call);
    positions = builder.input("positions", row, Role::input, Scope::call);
    const TensorType table{type, {kTokens, kSize / 2}};
    cos = builder.input("cos", table, Role::constant, Scope::run);
    sin = builder.input("sin", table, Role::constant, Scope::run);
    const ValueId embedding = parameter(builder, "embed", {type, {kVocabulary, kWidth}});
    ValueId x = builder.one(Op::embedding, {embedding, ids}, {}, "x0");
    builder.set_layer(0);
    x = builder.one(Op::add, {x, attention(norm("norm1", x))}, {}, "x1");
    x = builder.one(Op::add, {x, mlp(norm("norm2", x))}, {}, "x2");
    builder.set_layer(-1);
    builder.set_role(Role::metric);
    graph.outputs = {builder.one(Op::head_loss, {norm("final", x), embedding, labels}, {}, "loss")};
  }

  ValueId norm(const std::string& name, ValueId x) {
    const ValueId w = parameter(builder, name, {type, {kWidth}});
    return builder.one(Op::rms_norm, {x, w}, {{"eps", 1e-3}}, name + ".out");
  }

  ValueId linear(const std::string& name, ValueId x, std::int64_t out) {
    const std::int64_t in = graph.value(x).type.shape[1];
    const ValueId w = parameter(builder, name + ".weight", {type, {out, in}});
    const ValueId b = parameter(builder, name + ".bias", {type, {out}});
    return builder.one(Op::linear, {x, w, b}, {}, name + ".out");
  }

  ValueId heads(const std::string& name, ValueId x, std::int64_t n) {
    const ValueId flat = linear(name, x, n * kSize);
    return builder.one(Op::reshape, {flat}, {{"shape", shape_text({kTokens, n, kSize})}}, name);
  }

  ValueId rope(ValueId x) { return builder.one(Op::rope, {x, cos, sin, positions}, {}, "rope"); }

  ValueId attention(ValueId x) {
    const ValueId q = rope(heads("q", x, kHeads));
    const ValueId k = rope(heads("k", x, kGroups));
    const ValueId v = heads("v", x, kGroups);
    const ValueId o = builder.emit(Op::attention, {q, k, v, start},
                                   {{"scale", 0.5}, {"window", std::int64_t{0}}}, "attention")[0];
    const ValueId flat =
        builder.one(Op::reshape, {o}, {{"shape", shape_text({kTokens, kHeads * kSize})}}, "o.flat");
    return linear("o", flat, kWidth);
  }

  ValueId mlp(ValueId x) {
    const ValueId gate = linear("gate", x, kInner);
    const ValueId up = linear("up", x, kInner);
    return linear("down", builder.one(Op::silu_mul, {gate, up}, {}, "act"), kWidth);
  }

  DType type;
  Graph graph;
  Builder builder;
  ValueId start = kNoValue, positions = kNoValue, cos = kNoValue, sin = kNoValue;
};

using Values = std::map<std::string, std::vector<double>>;

Values model_values(const Graph& graph) {
  std::mt19937 random(3);
  std::normal_distribution<double> normal(0.0, 0.7);
  Values values{{"ids", {1, 5, 1, 0, 2}},
                {"labels", {5, 1, -100, 2, 2}},
                {"doc_start", {0, 0, 0, 3, 3}},
                {"positions", {0, 1, 2, 0, 1}},
                {"seed", {0.25}},
                {"scalar/draw", {9}}};
  for (int i = 0; i < 10; ++i) {
    values["cos"].push_back(std::cos(0.3 * i));
    values["sin"].push_back(std::sin(0.3 * i));
  }
  for (const Parameter& p : graph.parameters) {
    for (std::int64_t i = 0; i < p.type.shape.elements(); ++i) {
      values[p.name].push_back(normal(random));
    }
  }
  return values;
}

Values run(const Graph& graph, const Values& values) {
  Interpreter interpreter(graph);
  for (const auto& [name, numbers] : values) interpreter.set(name, numbers);
  interpreter.run();
  Values results;
  for (const ValueId id : graph.outputs) {
    const bool gradient = graph.value(id).role == Role::gradient;
    const std::string& name = graph.value(gradient ? graph.root(id) : id).name;
    results[name] = interpreter.get(graph.value(id).name);
  }
  return results;
}

TEST(Autodiff, SmallModelAgreesWithFiniteDifferences) {
  const SmallModel model(DType::f64);
  const Graph graph = differentiated(model.graph, DType::f64, DType::f64);
  Values values = model_values(graph);
  const Values results = run(graph, values);
  EXPECT_NEAR(results.at("loss")[0], run(model.graph, values).at("loss")[0], 1e-12);
  const double step = 1e-5;
  for (const Parameter& p : graph.parameters) {
    SCOPED_TRACE(p.name);
    const std::vector<double>& gradient = results.at(p.name + ".grad");
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      const double middle = values[p.name][i];
      values[p.name][i] = middle + step;
      const double above = run(model.graph, values).at("loss")[0];
      values[p.name][i] = middle - step;
      const double below = run(model.graph, values).at("loss")[0];
      values[p.name][i] = middle;
      EXPECT_NEAR(gradient[i], 0.25 * (above - below) / (2 * step), 1e-8) << i;
    }
  }
}

TEST(Autodiff, FusedStepAgreesWithElementaryStep) {
  const SmallModel model(DType::f64);
  const Values values = model_values(model.graph);
  const Values fused = run(differentiated(model.graph, DType::f64, DType::f64), values);
  const Values elementary =
      run(differentiated(expand_definitions(model.graph), DType::f64, DType::f64), values);
  ASSERT_EQ(fused.size(), elementary.size());
  for (const auto& [name, expected] : elementary) {
    SCOPED_TRACE(name);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_NEAR(fused.at(name)[i], expected[i], 1e-12) << i;
    }
  }
}

TEST(Autodiff, LossComesFromTheBackwardVisit) {
  const SmallModel model(DType::f32);
  const Graph graph = differentiated(model.graph, DType::f32, DType::f32);
  EXPECT_EQ(count(graph, Op::head_loss), 0);
  EXPECT_EQ(producer(graph, "loss").op, Op::head_loss_grad);
  EXPECT_EQ(graph.value(graph.find("loss")).role, Role::metric);
  EXPECT_EQ(graph.outputs.front(), graph.find("loss"));
}

TEST(Autodiff, LossThatForwardReadsStays) {
  SmallModel model(DType::f32);
  const ValueId loss = model.graph.find("loss");
  model.graph.outputs.push_back(model.builder.one(Op::scale, {loss}, {{"factor", 2.0}}, "twice"));
  const Graph graph = differentiated(model.graph, DType::f32, DType::f32);
  EXPECT_EQ(count(graph, Op::head_loss), 1);
  EXPECT_EQ(producer(graph, "embed.grad").op, Op::head_loss_grad);
  EXPECT_NO_THROW(verify_graph(graph));
}

TEST(Autodiff, TiedWeightsAccumulateInPlace) {
  for (const DType type : {DType::bf16, DType::f32}) {
    const SmallModel model(DType::bf16);
    const Graph graph = differentiated(model.graph, DType::bf16, type);
    ASSERT_NO_THROW(verify_graph(graph));
    const ValueId root = graph.find("embed.grad");
    ASSERT_TRUE(exists(root));
    EXPECT_EQ(producer(graph, "embed.grad").op, Op::head_loss_grad);
    const Node& last = graph.nodes.back();
    ASSERT_EQ(last.op, Op::embedding_dw);
    EXPECT_EQ(last.inputs[2], root);
    EXPECT_EQ(graph.root(last.outputs[0]), root);
    EXPECT_EQ(graph.value(last.outputs[0]).role, Role::gradient);
    EXPECT_EQ(graph.value(root).type.dtype, type);
    EXPECT_EQ(last.attributes.integer("seed"), 5);
    // fp32 sums are rounded to nearest: no draw.
    EXPECT_EQ(last.inputs.size(), type == DType::bf16 ? 4U : 3U);
    EXPECT_EQ(exists(graph.find("scalar/draw")), type == DType::bf16);
  }
}

TEST(Autodiff, EveryGradientIsAnOutputOfItsOwn) {
  const SmallModel model(DType::bf16);
  const Graph graph = differentiated(model.graph, DType::bf16, DType::f32);
  EXPECT_TRUE(graph.facts.contains(facts::kDifferentiated));
  EXPECT_TRUE(graph.facts.contains(facts::kGradientsComplete));
  std::set<std::string> roots;
  for (const ValueId id : graph.outputs) roots.insert(graph.value(graph.root(id)).name);
  EXPECT_EQ(roots.size(), graph.parameters.size() + 1);
  for (const Parameter& p : graph.parameters) {
    const ValueId id = graph.find(p.name + ".grad");
    ASSERT_TRUE(exists(id)) << p.name;
    EXPECT_TRUE(roots.contains(p.name + ".grad"));
    EXPECT_EQ(graph.value(id).role, Role::gradient);
    EXPECT_EQ(graph.value(id).type, (TensorType{DType::f32, p.type.shape}));
  }
  for (std::int64_t v = 0; v < graph.value_count(); ++v) {
    const Value& value = graph.value(static_cast<ValueId>(v));
    if (value.role != Role::gradient) continue;
    EXPECT_TRUE(roots.contains(graph.value(graph.root(static_cast<ValueId>(v))).name))
        << value.name;
  }
}

TEST(Autodiff, WeightGradientComesJustBeforeItsInputGradient) {
  const SmallModel model(DType::f32);
  const Graph graph = differentiated(model.graph, DType::f32, DType::f32);
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    if (node.op != Op::linear_dx) continue;
    EXPECT_EQ(node.phase, Phase::backward);
    ASSERT_GE(n, 2U);
    EXPECT_EQ(graph.nodes[n - 1].op, Op::column_sum);
    EXPECT_EQ(graph.nodes[n - 2].op, Op::linear_dw);
    EXPECT_EQ(graph.nodes[n - 2].inputs[0], node.inputs[0]);
    EXPECT_EQ(graph.nodes[n - 2].layer, 0);
  }
}

TEST(Autodiff, SharedInputsAddUpInPlace) {
  const SmallModel model(DType::f32);
  const Graph graph = differentiated(model.graph, DType::f32, DType::f32);
  // q, k, v read one value, gate and up another: 3 + 2 products into 2 places; the two residual
  // streams need an add each because their gradient also flows on.
  std::int64_t accumulated = 0;
  for (const Node& node : graph.nodes) {
    accumulated += node.op == Op::linear_dx && node.inputs.size() > 2 ? 1 : 0;
  }
  EXPECT_EQ(accumulated, 3);
  const auto backward_adds = std::count_if(
      graph.nodes.begin(), graph.nodes.end(),
      [](const Node& node) { return node.op == Op::add && node.phase == Phase::backward; });
  EXPECT_EQ(backward_adds, 2);
}

TEST(Autodiff, FrozenParametersCostNothing) {
  SmallModel model(DType::f32);
  for (Parameter& p : model.graph.parameters) p.trainable = p.name == "up.weight";
  const Graph graph = differentiated(model.graph, DType::f32, DType::f32);
  EXPECT_EQ(count(graph, Op::linear_dw), 1);
  EXPECT_EQ(count(graph, Op::column_sum), 0);
  EXPECT_EQ(count(graph, Op::rms_norm_dw), 0);
  EXPECT_EQ(count(graph, Op::embedding_dw), 0);
  EXPECT_EQ(count(graph, Op::attention_grad), 0);
  EXPECT_EQ(count(graph, Op::linear_dx), 1);  // down: to reach up
  EXPECT_EQ(producer(graph, "loss").outputs.size(), 2U);
}

TEST(Autodiff, GoldenText) {
  Graph graph("loss");
  Builder builder(graph);
  const ValueId x = builder.input("x", {DType::bf16, {4, 8}}, Role::input, Scope::call);
  const ValueId labels = builder.input("labels", {DType::i32, {4}}, Role::input, Scope::call);
  const ValueId up = parameter(builder, "up", {DType::bf16, {16, 8}});
  const ValueId head = parameter(builder, "head", {DType::bf16, {32, 16}}, false);
  const ValueId hidden = builder.one(Op::linear, {x, up}, {}, "hidden");
  graph.outputs = {builder.one(Op::head_loss, {hidden, head, labels}, {}, "loss")};
  const std::string text = print_graph(differentiated(graph, DType::bf16, DType::bf16));
  EXPECT_THAT(text, HasSubstr("%hidden = linear(%x, %up)"));
  EXPECT_THAT(text, HasSubstr("%loss, %hidden.grad = head_loss_grad(%hidden, %head, %labels, %seed)"
                              " : f32[]; bf16[4, 16] @ backward"));
  EXPECT_THAT(text, HasSubstr("%up.grad = linear_dw(%hidden.grad, %x) {dtype=\"bf16\", seed=5, "));
  EXPECT_THAT(text, testing::Not(HasSubstr("linear_dx")));
}

TEST(Autodiff, MissingRuleNamesTheOp) {
  Graph graph;
  Builder builder(graph);
  const ValueId a = parameter(builder, "a", {DType::f32, {3}});
  const ValueId peak = builder.one(Op::reduce_max, {a}, {{"axis", std::int64_t{0}}}, "peak");
  builder.one(Op::reshape, {peak}, {{"shape", ""}}, "loss");
  EXPECT_THAT(error_of([&] { differentiated(graph, DType::f32, DType::f32); }),
              HasSubstr("op 'reduce_max' has no gradient rule"));
}

TEST(Autodiff, UnusedParameterIsNamed) {
  SmallModel model(DType::f32);
  parameter(model.builder, "lonely", {DType::f32, {3}});
  EXPECT_THAT(error_of([&] { differentiated(model.graph, DType::f32, DType::f32); }),
              HasSubstr("does not depend on trainable parameter 'lonely'"));
}

}  // namespace
}  // namespace snug::test
