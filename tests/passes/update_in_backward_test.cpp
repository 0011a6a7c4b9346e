// Where updates go, what they read there, and when that is refused.

#include "passes/update_in_backward.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "core/settings_load.h"
#include "ir/liveness.h"
#include "ir/op.h"
#include "model/shapes.h"
#include "passes/pipeline.h"

namespace snug {
namespace {

using ::testing::HasSubstr;

Settings settings_of(std::vector<Assignment> words) {
  for (const auto& [key, value] : {std::pair{"max_grad_norm", "0"},
                                   {"activation_checkpointing", "true"},
                                   {"update_in_backward", "true"}}) {
    words.insert(words.begin(), from_command_line(key, value));
  }
  return make_settings(words);
}

/// The step of a small model: a whole one in one program.
StepModule module_of(const Settings& settings, bool tied) {
  ModelConfig config = shape_config("tiny");
  config.num_hidden_layers = 3;
  config.sliding_window.resize(3);
  config.tie_word_embeddings = tied;
  return compile_step(config, {.rows = 1, .lengths = {32}, .rope_positions = 32}, settings,
                      nullptr);
}

const Graph& step_of(const StepModule& module) {
  const auto program = static_cast<std::size_t>(module.script.buckets.front().whole_step);
  return module.programs[program].graph;
}

bool is_update(const Node& node) { return op_def(node.op).update_states >= 0; }

TEST(UpdateInBackward, EveryUpdateFollowsTheLastUseOfItsWeightAndGradient) {
  for (const bool tied : {false, true}) {
    const StepModule module = module_of(settings_of({}), tied);
    const Graph& graph = step_of(module);
    std::size_t updates = 0;
    for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
      if (!is_update(graph.nodes[n])) continue;
      ++updates;
      const ValueId weight = graph.root(graph.nodes[n].inputs[kUpdateWeight]);
      const ValueId gradient = graph.root(graph.nodes[n].inputs[kUpdateGradient]);
      // Behind come only the guards and updates of others that became possible at the same place.
      std::size_t last = 0;
      for (std::size_t k = 0; k < graph.nodes.size(); ++k) {
        if (k == n) continue;
        for (const ValueId id : graph.nodes[k].inputs) {
          if (!exists(id)) continue;
          if (graph.root(id) == weight || graph.root(id) == gradient) last = std::max(last, k);
        }
      }
      EXPECT_LT(last, n);
      for (std::size_t k = last + 1; k < n; ++k) {
        EXPECT_EQ(graph.nodes[k].phase, Phase::update) << op_def(graph.nodes[k].op).name;
      }
    }
    const auto trainable = std::count_if(module.parameters.begin(), module.parameters.end(),
                                         [](const Parameter& p) { return p.trainable; });
    EXPECT_EQ(updates, static_cast<std::size_t>(trainable));
  }
}

TEST(UpdateInBackward, NoGradientOutlivesItsLayer) {
  const StepModule module = module_of(settings_of({}), false);
  const Graph& graph = step_of(module);
  const Liveness live = analyse_liveness(graph);
  for (const StorageInterval& interval : live.intervals) {
    const Value& value = graph.value(interval.root);
    if (value.role != Role::gradient || value.layer < 0) continue;
    for (std::int32_t n = interval.begin; n <= interval.end; ++n) {
      const Node& node = graph.nodes[static_cast<std::size_t>(n)];
      EXPECT_TRUE(node.layer == value.layer) << value.name << " at " << op_def(node.op).name;
    }
  }
}

TEST(UpdateInBackward, EachUpdateIsGuardedByItsOwnGradient) {
  const StepModule module = module_of(settings_of({}), false);
  const Graph& graph = step_of(module);
  const auto producers = graph.producers();
  for (const Node& node : graph.nodes) {
    if (!is_update(node)) continue;
    EXPECT_FALSE(exists(node.inputs[kUpdateClip]));
    const auto maker = [&](ValueId id) -> const Node& {
      return graph.nodes[static_cast<std::size_t>(producers[static_cast<std::size_t>(id)])];
    };
    const Node& gate = maker(node.inputs[kUpdateApply]);
    ASSERT_EQ(gate.op, Op::apply_gate);
    const Node& norm = maker(gate.inputs[0]);
    ASSERT_EQ(norm.op, Op::global_norm);
    EXPECT_EQ(norm.inputs, std::vector<ValueId>({node.inputs[kUpdateGradient]}));
  }
}

TEST(UpdateInBackward, SaysWhatItNeeds) {
  EXPECT_EQ(why_no_update_in_backward(settings_of({}), 1), "");
  EXPECT_THAT(why_no_update_in_backward(settings_of({}), 8),
              HasSubstr("gradient_accumulation_steps=8: each micro-batch would update"));
  EXPECT_THAT(why_no_update_in_backward(settings_of({from_command_line("max_grad_norm", "1")}), 1),
              HasSubstr("max_grad_norm=1"));
  EXPECT_EQ(
      why_no_update_in_backward(settings_of({from_command_line("update_in_backward", "false")}), 8),
      "");
}

}  // namespace
}  // namespace snug
