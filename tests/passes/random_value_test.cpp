// Random graphs keep their value through every pass, on the reference kernels: bit for bit through
// an exact pass, within the arithmetic's error through a reordering one.

#include <gtest/gtest.h>

#include <cmath>

#include "passes/accumulate.h"
#include "passes/autodiff.h"
#include "passes/chunk_loss.h"
#include "passes/extract.h"
#include "passes/optimizer.h"
#include "passes/precision.h"
#include "passes/random_graph.h"
#include "passes/recompute.h"
#include "support/interpret.h"

namespace snug::test {
namespace {

constexpr unsigned kGraphs = 40;
constexpr std::int64_t kSeed = 5;

/// The values under `names` of the storage's roots after the graph ran; each output under its root.
Values run(const Graph& graph, const Values& values) {
  Interpreter interpreter(graph);
  for (const auto& [name, numbers] : values) interpreter.set(name, numbers);
  interpreter.run();
  Values results;
  for (const ValueId id : graph.outputs) {
    results[graph.value(graph.root(id)).name] = interpreter.get(graph.value(id).name);
  }
  return results;
}

void expect_near(const Values& ours, const Values& expected, double relative) {
  for (const auto& [name, numbers] : expected) {
    ASSERT_TRUE(ours.contains(name)) << name;
    double size = 0;
    double difference = 0;
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      size += numbers[i] * numbers[i];
      difference += std::pow(ours.at(name)[i] - numbers[i], 2);
    }
    EXPECT_LE(std::sqrt(difference), relative * (std::sqrt(size) + 1e-12)) << name;
  }
}

Graph differentiated(unsigned seed, DType type) {
  Graph graph = RandomGraph(seed, type).draw();
  graph = run_passes(std::move(graph), {precision_pass({})}, nullptr);
  if (type == DType::f32) {
    return run_passes(std::move(graph), {autodiff_pass(DType::f32, kSeed)}, nullptr);
  }
  // The pass's scalar is fp32, as the trainer sets it; in double its type follows.
  const ValueId loss = graph.find("metric/loss");
  const ValueId weight =
      Builder(graph).input("scalar/loss_weight", {type, {}}, Role::scalar, Scope::run);
  graph = differentiate(std::move(graph), loss, weight, {.gradient_dtype = type, .seed = kSeed});
  graph.facts.insert({std::string(facts::kDifferentiated), std::string(facts::kGradientsComplete)});
  return graph;
}

class RandomValue : public testing::TestWithParam<unsigned> {};

TEST_P(RandomValue, ChunkingTheLossReordersSums) {
  for (const DType type : {DType::f64, DType::f32}) {
    const Graph graph = RandomGraph(GetParam(), type).draw();
    const Values values = RandomGraph::values(graph, GetParam());
    const Graph chunked = run_passes(graph, {chunk_loss_pass({.chunk = {1}})}, nullptr);
    EXPECT_EQ(chunked.nodes.back().attributes.integer("chunk_rows"), 16);
    // 33 rows of 71 logits, 8 terms each: some hundred roundings.
    expect_near(run(chunked, values), run(graph, values), type == DType::f64 ? 1e-14 : 1e-6);
  }
}

TEST_P(RandomValue, DifferentiatingKeepsTheLossAndGivesItsSlope) {
  const Graph loss = RandomGraph(GetParam(), DType::f64).draw();
  const Graph graph = differentiated(GetParam(), DType::f64);
  Values values = RandomGraph::values(loss, GetParam());
  const Values gradients = run(graph, values);
  expect_near(gradients, run(loss, values), 1e-14);
  // Along a random direction, by a central difference: off by about step^2 and eps / step.
  const Values direction = RandomGraph::values(loss, GetParam() + 1000);
  constexpr double kStep = 1e-5;
  double slope = 0;
  const auto shifted = [&](double step) {
    Values moved = values;
    for (const Parameter& p : loss.parameters) {
      if (!p.trainable) continue;
      for (std::size_t i = 0; i < moved[p.name].size(); ++i) {
        moved[p.name][i] += step * direction.at(p.name)[i];
      }
    }
    return run(loss, moved).at("metric/loss")[0];
  };
  double size = 0;
  for (const Parameter& p : loss.parameters) {
    if (!p.trainable) continue;
    const std::vector<double>& gradient = gradients.at(p.name + ".grad");
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      slope += gradient[i] * direction.at(p.name)[i];
      size += std::abs(gradient[i] * direction.at(p.name)[i]);
    }
  }
  const double weight = values.at("scalar/loss_weight")[0];
  const double expected = weight * (shifted(kStep) - shifted(-kStep)) / (2 * kStep);
  EXPECT_NEAR(slope, expected, 1e-6 * (size + 1));
}

TEST_P(RandomValue, RecomputingChangesNoBit) {
  using Policy = RecomputeOptions::Policy;
  const Graph graph = differentiated(GetParam(), DType::f64);
  const Values values = RandomGraph::values(graph, GetParam());
  const Values plain = run(graph, values);
  for (const RecomputeOptions& options :
       {RecomputeOptions{Policy::every_block, 0}, RecomputeOptions{Policy::cheap, 0},
        RecomputeOptions{Policy::keep_attention, 0}, RecomputeOptions{Policy::every, 2},
        RecomputeOptions{Policy::segments, 2}, RecomputeOptions{Policy::sqrt, 0}}) {
    const Graph again = run_passes(graph, {recompute_pass(options)}, nullptr);
    EXPECT_EQ(run(again, values), plain) << static_cast<int>(options.policy);
  }
}

/// A graph with its update, the values to start from, and its programs when cut in two.
struct Step {
  explicit Step(unsigned seed) {
    const Graph gradients = differentiated(seed, DType::f32);
    whole = run_passes(
        gradients,
        {optimizer_pass({.arguments = {}, .weight_decay = 0.1, .max_grad_norm = 1}, kSeed),
         open_accumulation_pass()},
        nullptr);
    values = RandomGraph::values(gradients, seed);
    micro = cut("micro", {Phase::forward, Phase::backward});
    update = cut("update", {Phase::update});
    whole = cut("step", {Phase::forward, Phase::backward, Phase::update});
    for (const Parameter& p : whole.parameters) {
      const auto count = static_cast<std::size_t>(p.type.shape.elements());
      for (const char* state : {".exp_avg", ".exp_avg_sq"}) {
        values[p.name + state].assign(count, 0.0);
      }
    }
  }
  Graph cut(const char* name, std::vector<Phase> phases) const {
    return extract_program(whole, name, [&](const Node& node) {
      return std::find(phases.begin(), phases.end(), node.phase) != phases.end();
    });
  }

  Graph whole, micro, update;
  Values values;
};

TEST_P(RandomValue, CuttingIntoProgramsChangesNoBit) {
  const Step step(GetParam());
  const Values whole = run(step.whole, step.values);
  Values parts = run(step.micro, step.values);
  Values handed = step.values;
  for (const auto& [name, numbers] : parts) handed[name] = numbers;
  parts.merge(run(step.update, handed));
  for (const auto& [name, numbers] : whole) EXPECT_EQ(parts.at(name), numbers) << name;
}

TEST_P(RandomValue, UpdatingFollowsTheFormula) {
  const Step step(GetParam());
  const Values gradients = run(step.micro, step.values);
  const Values updated = run(step.whole, step.values);
  double squares = 0;
  for (const Parameter& p : step.whole.parameters) {
    if (!p.trainable) continue;
    for (const double g : gradients.at(p.name + ".grad")) squares += g * g;
  }
  const double norm = std::sqrt(squares);
  EXPECT_NEAR(updated.at("metric/grad_norm")[0], norm, 1e-6 * norm);
  EXPECT_EQ(updated.at("metric/loss"), gradients.at("metric/loss"));
  const double clip = std::min(1.0, 1 / (norm + 1e-6));
  const double rate = step.values.at("scalar/lr")[0];
  for (const Parameter& p : step.whole.parameters) {
    if (!p.trainable) continue;
    std::vector<double> expected = step.values.at(p.name);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      // At the first step both moments' corrections cancel: the update is g / (|g| + eps).
      const double g = clip * gradients.at(p.name + ".grad")[i];
      expected[i] *= 1 - rate * (p.decay ? 0.1 : 0.0);
      expected[i] -= rate * g / (std::abs(g) + 1e-8);
    }
    expect_near({{p.name, updated.at(p.name)}}, {{p.name, expected}}, 1e-6);
  }
}

TEST_P(RandomValue, AccumulatingAddsTheGradients) {
  const Step step(GetParam());
  const Graph next = run_passes(step.micro, {accumulate_pass(kSeed)}, nullptr);
  const Values first = run(step.micro, step.values);
  Values other = step.values;
  const Values drawn = RandomGraph::values(step.whole, GetParam() + 500);
  for (const char* input : {"input/ids", "input/labels"}) other[input] = drawn.at(input);
  Values expected = run(step.micro, other);
  for (const auto& [name, numbers] : first) {
    if (!name.ends_with(".grad")) continue;
    for (std::size_t i = 0; i < numbers.size(); ++i) expected[name][i] += numbers[i];
    other[name] = numbers;
  }
  expect_near(run(next, other), expected, 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Graphs, RandomValue, testing::Range(1U, kGraphs + 1));

}  // namespace
}  // namespace snug::test
