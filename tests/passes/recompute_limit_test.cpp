// Recomputation under a byte limit: as little as the limit allows, never above it.
#include "passes/recompute_limit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <random>

#include "core/bytes.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "passes/nominal_cost.h"
#include "passes/pipeline.h"
#include "passes/recompute.h"
#include "support/interpret.h"

namespace snug {
namespace {

ModelConfig small_config(int layers, bool qk_norm) {
  ModelConfig config;
  config.vocab_size = 48;
  config.hidden_size = 16;
  config.intermediate_size = 40;
  config.num_hidden_layers = layers;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 4;
  config.qk_norm = qk_norm;
  config.tie_word_embeddings = true;
  config.max_position_embeddings = 64;
  return config;
}

struct Case {
  ModelConfig config;
  StepRequest request;
  Settings settings;
};

Case plain_case(int layers, std::int64_t rows, std::int64_t length, bool qk_norm = false) {
  Case c{small_config(layers, qk_norm), {.rows = rows, .lengths = {length}}, {}};
  c.request.rope_positions = length;
  c.settings.optimizer.max_grad_norm = 1;
  return c;
}

Case random_case(std::mt19937& random) {
  const auto between = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  Case c = plain_case(between(1, 6), between(1, 3), between(2, 40), between(0, 1) == 1);
  c.config.hidden_size = std::int64_t{8} * between(1, 4);
  c.config.intermediate_size = std::int64_t{8} * between(1, 12);
  c.config.vocab_size = between(8, 200);
  c.config.attention_bias = between(0, 1) == 1;
  c.settings.precision.bf16 = between(0, 1) == 1;
  c.request.accumulate = between(0, 1) == 1;
  return c;
}

Graph before(const Case& c) { return graph_before_recompute(c.config, c.request, c.settings); }

Graph recomputed(const Graph& graph, const RecomputeOptions& options) {
  return run_passes(graph, {recompute_pass(options)}, nullptr);
}

TEST(RecomputeLimit, NeverExceedsItAndNeverRecomputesMoreForMore) {
  std::mt19937 random(7);
  for (int round = 0; round < 12; ++round) {
    const Case c = random_case(random);
    const Graph graph = before(c);
    const RecomputeChoices choices(graph);
    const std::int64_t least = choices.peak(0).activations;
    const std::int64_t most = std::max(least, live_peak(graph).activations);
    std::vector<std::int64_t> limits = {least, most + 1};
    for (int i = 0; i < 8; ++i) {
      limits.push_back(std::uniform_int_distribution<std::int64_t>(least, most)(random));
    }
    std::sort(limits.begin(), limits.end());
    std::int64_t flops = std::numeric_limits<std::int64_t>::max();
    double seconds = std::numeric_limits<double>::infinity();
    for (const std::int64_t limit : limits) {
      const Graph result = recomputed(graph, recompute_under(limit));
      EXPECT_LE(live_peak(result).activations, limit);
      EXPECT_LE(recomputed_flops(result), flops);
      EXPECT_LE(nominal_seconds(result), seconds);
      flops = recomputed_flops(result);
      seconds = nominal_seconds(result);
    }
    EXPECT_EQ(flops, 0) << "everything fits the largest limit";
  }
}

TEST(RecomputeLimit, HoldsForEveryProgramOfTheStep) {
  for (const bool accumulate : {false, true}) {
    Case c = plain_case(4, 2, 16);
    c.request.lengths = {8, 16};
    c.request.accumulate = accumulate;
    c.settings.precision.bf16 = true;
    const RecomputeChoices choices(before(c));
    const std::int64_t limit = choices.peak(choices.count() / 2).activations;
    c.settings.recompute = recompute_under(limit);
    const StepModule module = compile_step(c.config, c.request, c.settings, nullptr);
    for (const Program& program : module.programs) {
      EXPECT_LE(live_peak(program.graph).activations, limit) << program.name;
    }
  }
}

TEST(RecomputeLimit, LeavesTheGraphAloneWhenEverythingFits) {
  const Graph graph = before(plain_case(3, 2, 8));
  const std::int64_t all = live_peak(graph).activations;
  EXPECT_EQ(print_graph(recomputed(graph, recompute_under(all))),
            print_graph(recomputed(graph, nothing_recomputed())));
  EXPECT_GT(recomputed_flops(recomputed(graph, recompute_under(all - 1))), 0);
}

TEST(RecomputeLimit, IsNoWorseThanAnyFixedRuleOfTheSamePeak) {
  using Policy = RecomputeOptions::Policy;
  for (const std::int64_t length : {16, 64}) {
    const Graph graph = before(plain_case(6, 4, length));
    for (const RecomputeOptions& rule : {RecomputeOptions{Policy::every_block, 0},
                                         {Policy::keep_attention, 0},
                                         {Policy::cheap, 0},
                                         {Policy::every, 2},
                                         {Policy::every, 3}}) {
      const Graph fixed = recomputed(graph, rule);
      const Graph chosen = recomputed(graph, recompute_under(live_peak(fixed).activations));
      EXPECT_LE(nominal_seconds(chosen), nominal_seconds(fixed) * 1.0000001)
          << static_cast<int>(rule.policy) << " at length " << length;
    }
  }
}

TEST(RecomputeLimit, RefusesWhatIsImpossibleAndNamesTheTightest) {
  const Graph graph = before(plain_case(3, 2, 8));
  const std::int64_t least = RecomputeChoices(graph).peak(0).activations;
  EXPECT_NO_THROW(recomputed(graph, recompute_under(least)));
  try {
    recomputed(graph, recompute_under(least - 1));
    FAIL() << "a limit that cannot be kept";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(fmt::format("activation_checkpointing={}.",
                                                             exact_bytes({least}))));
  }
}

TEST(RecomputeLimit, GoesBelowEveryBlockByRecomputingBlocksTwice) {
  using Policy = RecomputeOptions::Policy;
  const Graph graph = before(plain_case(12, 2, 8));
  const Graph every_block = recomputed(graph, {Policy::every_block, 0});
  const std::int64_t least = RecomputeChoices(graph).peak(0).activations;
  // 12 layers' inputs, of which 5 are alive at a time when 5 are kept.
  EXPECT_LE(least, live_peak(every_block).activations - std::int64_t{7} * 16 * 16 * 4);
  const Graph tightest = recomputed(graph, recompute_under(least));
  EXPECT_LE(live_peak(tightest).activations, least);
  EXPECT_GT(recomputed_flops(tightest), recomputed_flops(every_block));
  EXPECT_LE(recomputed_flops(tightest), recomputed_flops(every_block) + forward_flops(graph));
}

TEST(RecomputeSegments, HoldOneLayersValuesBesideBorders) {
  using Policy = RecomputeOptions::Policy;
  const Graph graph = before(plain_case(12, 2, 8));
  constexpr std::int64_t kBorder = std::int64_t{2} * 8 * 16 * 4;
  const std::int64_t one_layer =
      live_peak(recomputed(graph, {Policy::every_block, 0})).activations - 12 * kBorder;
  for (const auto& [segments, borders] : {std::pair{12, 12}, {8, 8}, {5, 5}, {4, 5}, {1, 12}}) {
    EXPECT_LE(live_peak(recomputed(graph, {Policy::segments, segments})).activations,
              one_layer + borders * kBorder)
        << segments;
  }
}

TEST(RecomputeSegments, AreOfTheLengthsThatHoldFewestBorders) {
  for (int layers = 1; layers <= 9; ++layers) {
    for (int segments = 1; segments <= layers; ++segments) {
      // Every set of kept outputs is a number whose bits are the layers; the last is kept.
      int fewest = layers;
      const auto most_alive = [&](auto&& kept) {
        int inputs = 1;
        int since = 0;
        int most = 0;
        for (int l = 0; l < layers; ++l) {
          most = std::max(most, inputs + since);
          if (kept(l)) ++inputs;
          since = kept(l) ? 0 : since + 1;
        }
        return most;
      };
      for (unsigned set = 0; set < (1U << layers); ++set) {
        if (std::popcount(set) != segments || (set >> (layers - 1)) != 1) continue;
        fewest = std::min(fewest, most_alive([&](int l) { return (set >> l & 1) == 1; }));
      }
      const std::vector<bool> kept = outputs_kept(layers, segments);
      ASSERT_EQ(kept.size(), layers);
      EXPECT_EQ(std::count(kept.begin(), kept.end(), true), segments);
      EXPECT_TRUE(kept.back());
      EXPECT_EQ(most_alive([&](int l) { return kept[static_cast<std::size_t>(l)]; }), fewest)
          << layers << " in " << segments;
    }
  }
}

TEST(RecomputeLimit, GivesTheSameBits) {
  const Graph graph = before(plain_case(4, 2, 6, true));
  const RecomputeChoices choices(graph);
  EXPECT_TRUE(choices.kept(0).nested);
  const std::int64_t least = choices.peak(0).activations;
  std::vector<std::vector<double>> plain;
  for (std::size_t choice = choices.count(); choice-- > 0;) {
    const Graph step =
        recomputed(graph, recompute_under(std::max(least, choices.peak(choice).activations)));
    test::Interpreter run(step);
    std::mt19937 random(3);
    std::normal_distribution<double> normal(0, 0.5);
    const std::vector<std::int32_t> producers = step.producers();
    for (std::int64_t v = 0; v < graph.value_count(); ++v) {
      const Value& value = step.value(static_cast<ValueId>(v));
      if (producers[static_cast<std::size_t>(v)] >= 0 || exists(value.base)) continue;
      std::vector<double> numbers(static_cast<std::size_t>(value.type.shape.elements()));
      for (double& number : numbers) {
        number = is_float(value.type.dtype) ? normal(random) : static_cast<double>(random() % 2);
      }
      if (value.name == "input/doc_start") std::fill(numbers.begin(), numbers.end(), 0);
      run.set(value.name, numbers);
    }
    run.run();
    std::vector<std::vector<double>> results;
    for (const ValueId id : step.outputs) results.push_back(run.get(step.value(id).name));
    if (plain.empty()) plain = results;
    EXPECT_EQ(results, plain) << "choice " << choice;
  }
}

}  // namespace
}  // namespace snug
