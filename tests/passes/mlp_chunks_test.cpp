// The MLP in tiles: the same function, its wide values one tile at a time.
#include "passes/mlp_chunks.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

#include "ir/text.h"
#include "passes/pipeline.h"
#include "passes/recompute.h"
#include "passes/recompute_limit.h"
#include "support/interpret.h"

namespace snug {
namespace {

ModelConfig small_config() {
  ModelConfig config;
  config.vocab_size = 48;
  config.hidden_size = 16;
  config.intermediate_size = 72;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 4;
  config.mlp_bias = true;
  config.tie_word_embeddings = true;
  config.max_position_embeddings = 64;
  return config;
}

Settings settings_with(std::int64_t chunks, const RecomputeOptions& recompute) {
  Settings settings;
  settings.optimizer.max_grad_norm = 1;
  settings.mlp_chunks.count = chunks;
  settings.recompute = recompute;
  return settings;
}

Settings settings_with(std::int64_t chunks, bool recompute) {
  using Policy = RecomputeOptions::Policy;
  return settings_with(chunks, {recompute ? Policy::every_block : Policy::off, 0});
}

Graph step_graph(const Settings& settings, std::int64_t rows = 2) {
  const StepRequest request{
      .rows = rows, .lengths = {32}, .accumulate = false, .rope_positions = 32};
  return run_passes(build_loss(small_config(), {rows, 32}, 32), training_passes(settings), nullptr);
}

/// The widest extent in rows of any value of the MLP's inner width.
std::int64_t most_inner_rows(const Graph& graph) {
  std::int64_t rows = 0;
  for (const Node& node : graph.nodes) {
    for (const ValueId id : node.outputs) {
      const Shape& shape = graph.value(id).type.shape;
      const bool inner = shape.rank() == 2 && shape[1] == 72 && node.layer >= 0 &&
                         graph.value(id).role == Role::activation;
      if (inner) rows = std::max(rows, shape[0]);
    }
  }
  return rows;
}

using Results = std::map<std::string, std::vector<double>>;

Results play(const Graph& graph) {
  test::Interpreter run(graph);
  const std::vector<std::int32_t> producers = graph.producers();
  for (std::int64_t v = 0; v < graph.value_count(); ++v) {
    const Value& value = graph.value(static_cast<ValueId>(v));
    if (producers[static_cast<std::size_t>(v)] >= 0 || exists(value.base)) continue;
    // By name, not by number: the two graphs count their values differently.
    std::mt19937 random(static_cast<unsigned>(std::hash<std::string>{}(value.name)));
    std::normal_distribution<double> normal(0, 0.5);
    std::vector<double> numbers(static_cast<std::size_t>(value.type.shape.elements()));
    for (double& number : numbers) {
      number = is_float(value.type.dtype) ? normal(random) : static_cast<double>(random() % 2);
    }
    if (value.name == "input/doc_start") std::fill(numbers.begin(), numbers.end(), 0);
    if (value.name == "scalar/apply") numbers = {1};
    if (value.name.starts_with("scalar/correction")) numbers = {0.1};
    run.set(value.name, numbers);
  }
  run.run();
  Results results;
  for (const ValueId id : graph.outputs) {
    results[graph.value(graph.root(id)).name] = run.get(graph.value(id).name);
  }
  return results;
}

TEST(MlpChunks, InnerValuesExistForOneTileAtATime) {
  EXPECT_EQ(most_inner_rows(step_graph(settings_with(1, true))), 64);
  EXPECT_EQ(most_inner_rows(step_graph(settings_with(4, true))), 16);
  EXPECT_EQ(most_inner_rows(step_graph(settings_with(3, true))), 32);
  // A tile has at least 16 rows.
  EXPECT_EQ(most_inner_rows(step_graph(settings_with(50, true))), 16);
}

TEST(MlpChunks, TilesEachRecomputationOfALayer) {
  const RecomputeOptions one_segment{RecomputeOptions::Policy::segments, 1};
  EXPECT_EQ(most_inner_rows(step_graph(settings_with(1, one_segment))), 64);
  EXPECT_EQ(most_inner_rows(step_graph(settings_with(4, one_segment))), 16);
}

TEST(MlpChunks, LowersThePeak) {
  const std::int64_t whole = live_peak(step_graph(settings_with(1, true))).activations;
  const std::int64_t tiled = live_peak(step_graph(settings_with(4, true))).activations;
  // At least gate and up of 48 of the 64 rows are gone.
  EXPECT_LT(tiled, whole - std::int64_t{2} * 48 * 72 * 4);
}

TEST(MlpChunks, WhatBackwardReadsIsKeptWhole) {
  const Graph graph = step_graph(settings_with(4, false));
  for (const Node& node : graph.nodes) {
    if (node.phase != Phase::forward || node.op != Op::silu_mul) continue;
    EXPECT_EQ(graph.value(node.outputs[0]).type.shape[0], 64);
  }
  for (const Node& node : graph.nodes) {
    if (node.op == Op::silu_mul_grad) {
      EXPECT_EQ(graph.value(node.outputs[0]).type.shape[0], 16);
    }
  }
}

void expect_same_step(const Results& plain, const Results& tiled) {
  ASSERT_EQ(plain.size(), tiled.size());
  for (const auto& [name, values] : plain) {
    const auto& other = tiled.at(name);
    ASSERT_EQ(values.size(), other.size()) << name;
    for (std::size_t i = 0; i < values.size(); ++i) {
      // fp32 sums of 64 rows in 4 parts.
      EXPECT_NEAR(values[i], other[i], 64 * 1.2e-7 * std::max(1.0, std::abs(values[i]))) << name;
    }
  }
  EXPECT_EQ(plain.at("metric/loss"), tiled.at("metric/loss"));
}

TEST(MlpChunks, GivesTheSameStep) {
  using Policy = RecomputeOptions::Policy;
  for (const RecomputeOptions& recompute :
       {RecomputeOptions{Policy::off, 0}, {Policy::every_block, 0}, {Policy::segments, 1}}) {
    expect_same_step(play(step_graph(settings_with(1, recompute))),
                     play(step_graph(settings_with(4, recompute))));
  }
}

TEST(MlpChunks, TilesAdaptersAndPackedWeights) {
  for (const bool dora : {false, true}) {
    for (const bool packed : {false, true}) {
      const auto adapted = [&](std::int64_t chunks) {
        Settings settings = settings_with(chunks, true);
        settings.model.finetuning = FinetuningType::lora;
        settings.lora.rank = 2;
        settings.lora.dropout = 0.25;
        settings.lora.targets = {"all-linear"};
        settings.lora.dora = dora;
        settings.quantization.load_in_4bit = packed && !dora;
        settings.quantization.load_in_8bit = packed && dora;
        return step_graph(settings);
      };
      EXPECT_EQ(most_inner_rows(adapted(1)), 64);
      EXPECT_EQ(most_inner_rows(adapted(4)), 16) << dora << packed;
      expect_same_step(play(adapted(1)), play(adapted(4)));
    }
  }
}

TEST(MlpChunks, OneLayerOfThePassAsText) {
  const Graph graph = step_graph(settings_with(2, true));
  const std::string printed = print_graph(graph);
  for (const char* line : {
           "%layers.1.mlp_norm/rows0 = view(%layers.1.mlp_norm) {offset=0, shape=\"32,16\"}",
           "%layers.1.gate/tile32 = linear(%layers.1.mlp_norm/rows32, "
           "%model.layers.1.mlp.gate_proj.weight, %model.layers.1.mlp.gate_proj.bias)",
           "%layers.1.down = write_rows(_, %layers.1.down/tile0) {begin=0, rows=64}",
           "%layers.1.down/rows32 = write_rows(%layers.1.down, %layers.1.down/tile32) {begin=32}",
       }) {
    EXPECT_NE(printed.find(line), std::string::npos) << line;
  }
}

}  // namespace
}  // namespace snug
