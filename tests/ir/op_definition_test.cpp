// Every fused op against its definition in elementary ops, and every gradient rule against finite
// differences and against the gradient of the definition.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "ir/elementary.h"
#include "passes/autodiff.h"
#include "support/interpret.h"
#include "support/op_cases.h"

namespace snug::test {
namespace {

std::string describe(const OpCase& c) {
  std::string text(op_def(c.op).name);
  for (const CaseInput& input : c.inputs) text += fmt::format(" {}", input.shape.to_string());
  return text;
}

void set_inputs(Interpreter& run, const CaseGraph& c) {
  for (std::size_t i = 0; i < c.values.size(); ++i) run.set(c.input_name(i), c.values[i]);
}

void expect_near(const std::vector<double>& actual, const std::vector<double>& expected,
                 double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  double scale = 1.0;
  for (const double value : expected) scale = std::max(scale, std::abs(value));
  for (std::size_t i = 0; i < actual.size(); ++i) {
    EXPECT_NEAR(actual[i], expected[i], tolerance * scale) << "element " << i;
  }
}

/// Adds `loss`, the sum of all elements of the case's first outputs, each times a number of its
/// own.
void add_loss(CaseGraph& c, int outputs) {
  Builder builder(c.graph);
  Elementary e(builder, "objective");
  ValueId loss = kNoValue;
  for (int i = 0; i < outputs; ++i) {
    ValueId y = c.outputs[static_cast<std::size_t>(i)];
    const std::int64_t size = e.shape(y).elements();
    const ValueId weights =
        builder.input(fmt::format("weights{}", i), {DType::f64, {size}}, Role::input, Scope::call);
    const ValueId sum = e.reduce_sum(e.mul(e.reshape(y, {size}), weights), 0);
    const ValueId scalar = e.reshape(sum, {});
    loss = exists(loss) ? e.add(loss, scalar) : scalar;
  }
  c.graph.rename_value(loss, "loss");
  c.graph.outputs = {loss};
}

void set_weights(Interpreter& run, const Graph& graph, int outputs) {
  for (int i = 0; i < outputs; ++i) {
    const std::string name = fmt::format("weights{}", i);
    std::vector<double> values;
    for (std::int64_t j = 0; j < graph.value(graph.find(name)).type.shape.elements(); ++j) {
      values.push_back(std::cos(static_cast<double>(1 + j)));
    }
    run.set(name, values);
  }
}

/// Makes the differentiable inputs trainable parameters and adds their gradients.
Graph gradients_of(Graph graph, const OpCase& c, const CaseGraph& built) {
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    if (!c.inputs[i].differentiate) continue;
    const std::string name = built.input_name(i);
    const TensorType type{DType::f64, c.inputs[i].shape};
    graph.parameters.push_back({.name = name,
                                .type = type,
                                .tied_names = {},
                                .storage = {{"weight", "plain", name, type}}});
  }
  Builder builder(graph);
  const ValueId seed = builder.input("seed", {DType::f64, {}}, Role::scalar, Scope::call);
  const ValueId loss = graph.find("loss");
  return differentiate(std::move(graph), loss, seed, {.gradient_dtype = DType::f64, .seed = 0});
}

double loss_at(const CaseGraph& c, int outputs) {
  Interpreter run(c.graph);
  set_inputs(run, c);
  set_weights(run, c.graph, outputs);
  run.run();
  return run.get("loss")[0];
}

std::vector<double> finite_differences(CaseGraph c, std::size_t input, int outputs) {
  const double step = 1e-5;
  std::vector<double> slopes;
  for (double& value : c.values[input]) {
    const double middle = value;
    value = middle + step;
    const double above = loss_at(c, outputs);
    value = middle - step;
    const double below = loss_at(c, outputs);
    value = middle;
    slopes.push_back((above - below) / (2.0 * step));
  }
  return slopes;
}

std::vector<std::vector<double>> run_gradients(const Graph& graph, const OpCase& c,
                                               const CaseGraph& built) {
  Interpreter run(graph);
  set_inputs(run, built);
  run.set("seed", std::vector<double>{1.0});
  set_weights(run, graph, c.outputs_in_loss);
  run.run();
  std::vector<std::vector<double>> gradients;
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    gradients.push_back(c.inputs[i].differentiate
                            ? run.get(fmt::format("{}.grad", built.input_name(i)))
                            : std::vector<double>{});
  }
  return gradients;
}

TEST(OpDefinition, EveryRowThatNeedsOneHasACase) {
  for (int i = 0; i < static_cast<int>(Op::count_); ++i) {
    const OpDef& row = op_def(static_cast<Op>(i));
    if (row.op == Op::stop_gradient) continue;  // StopGradientPassesNone
    if (row.gradient == nullptr && row.definition == nullptr) continue;
    const auto cases = op_cases();
    EXPECT_TRUE(std::any_of(cases.begin(), cases.end(), [&](const OpCase& c) {
      return c.op == row.op;
    })) << row.name;
  }
}

TEST(OpDefinition, FusedOpsHaveDefinitions) {
  for (int i = static_cast<int>(Op::embedding); i < static_cast<int>(Op::global_norm); ++i) {
    const OpDef& row = op_def(static_cast<Op>(i));
    // Tables, caches, codes and random numbers: their meaning is their reference kernel.
    const bool state = row.op == Op::rope_table || row.op == Op::attention_cached ||
                       row.op == Op::cache_write || row.op == Op::dequantize ||
                       row.op == Op::dropout;
    EXPECT_EQ(row.definition == nullptr, state) << row.name;
  }
}

TEST(OpDefinition, KernelsAgreeInDouble) {
  for (const OpCase& c : op_cases()) {
    if (op_def(c.op).definition == nullptr) continue;
    SCOPED_TRACE(describe(c));
    const CaseGraph built = build_case(c);
    const Graph expanded = expand_definitions(built.graph);
    Interpreter fused(built.graph);
    set_inputs(fused, built);
    Interpreter elementary(expanded);
    set_inputs(elementary, built);
    fused.run();
    elementary.run();
    for (std::size_t i = 0; i < built.outputs.size(); ++i) {
      const std::string name = fmt::format("y{}", i);
      expect_near(fused.get(name), elementary.get(name), 1e-12);
    }
  }
}

TEST(OpDefinition, KernelsAgreeInBfloat16) {
  for (const OpCase& c : op_cases()) {
    if (op_def(c.op).definition == nullptr) continue;
    SCOPED_TRACE(describe(c));
    const CaseGraph built = build_case(c, DType::bf16);
    const Graph expanded = expand_definitions(built.graph);
    Interpreter fused(built.graph);
    set_inputs(fused, built);
    Interpreter elementary(expanded);
    set_inputs(elementary, built);
    fused.run();
    elementary.run();
    for (std::size_t i = 0; i < built.outputs.size(); ++i) {
      const std::string name = fmt::format("y{}", i);
      // Both round an fp32 result once: at most one step of bf16 apart.
      expect_near(fused.get(name), elementary.get(name), 1.0 / 128);
    }
  }
}

TEST(OpGradient, RulesAgreeWithFiniteDifferences) {
  for (const OpCase& c : op_cases()) {
    if (op_def(c.op).gradient == nullptr) continue;
    SCOPED_TRACE(describe(c));
    CaseGraph built = build_case(c);
    add_loss(built, c.outputs_in_loss);
    const Graph graph = gradients_of(built.graph, c, built);
    const auto gradients = run_gradients(graph, c, built);
    for (std::size_t i = 0; i < c.inputs.size(); ++i) {
      if (!c.inputs[i].differentiate) continue;
      SCOPED_TRACE(fmt::format("operand {}", i));
      expect_near(gradients[i], finite_differences(built, i, c.outputs_in_loss), 1e-8);
    }
  }
}

TEST(OpGradient, RulesAgreeWithGradientsOfDefinitions) {
  for (const OpCase& c : op_cases()) {
    if (op_def(c.op).gradient == nullptr || op_def(c.op).definition == nullptr) continue;
    SCOPED_TRACE(describe(c));
    CaseGraph built = build_case(c);
    add_loss(built, c.outputs_in_loss);
    const Graph fused = gradients_of(built.graph, c, built);
    const Graph elementary = gradients_of(expand_definitions(built.graph), c, built);
    const auto actual = run_gradients(fused, c, built);
    const auto expected = run_gradients(elementary, c, built);
    for (std::size_t i = 0; i < c.inputs.size(); ++i) {
      SCOPED_TRACE(fmt::format("operand {}", i));
      expect_near(actual[i], expected[i], 1e-12);
    }
  }
}

TEST(OpGradient, StopGradientPassesNone) {
  Graph graph;
  Builder builder(graph);
  Elementary e(builder, "t");
  const ValueId a = builder.input("a", {DType::f64, {}}, Role::weight, Scope::run);
  graph.rename_value(e.mul(a, e.stop_gradient(a)), "loss");
  graph.parameters.push_back({.name = "a",
                              .type = {DType::f64, {}},
                              .tied_names = {},
                              .storage = {{"weight", "plain", "a", {DType::f64, {}}}}});
  const ValueId seed = builder.input("seed", {DType::f64, {}}, Role::scalar, Scope::call);
  const ValueId loss = graph.find("loss");
  graph = differentiate(std::move(graph), loss, seed, {.gradient_dtype = DType::f64, .seed = 0});
  Interpreter run(graph);
  run.set("a", std::vector<double>{3.0});
  run.set("seed", std::vector<double>{1.0});
  run.run();
  EXPECT_EQ(run.get("a.grad")[0], 3.0);
}

}  // namespace
}  // namespace snug::test
