// What the pipeline refuses: unmet needs, broken facts, illegal graphs.

#include "passes/pipeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "core/error.h"
#include "core/settings_load.h"
#include "ir/builder.h"
#include "ir/text.h"
#include "model/shapes.h"
#include "passes/accumulate.h"
#include "passes/optimizer.h"
#include "passes/precision.h"
#include "passes/recompute.h"

namespace snug {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Graph small_loss() {
  ModelConfig config = shape_config("tiny");
  config.num_hidden_layers = 1;
  config.vocab_size = 64;
  return build_loss(config, {.rows = 1, .length = 8}, 8);
}

std::string error_of(Graph graph, const std::vector<Pass>& passes) {
  try {
    run_passes(std::move(graph), passes, nullptr);
  } catch (const InternalError& error) {
    return error.what();
  }
  return "";
}

Pass nothing(std::string_view name) {
  return {.name = name, .run = [](Graph graph) { return graph; }};
}

TEST(Pipeline, RunsTheTrainingPassesInOrder) {
  PipelineTrace trace;
  std::vector<std::string> seen;
  trace.after = [&](std::string_view pass, const Graph&) { seen.emplace_back(pass); };
  const Settings settings;
  run_passes(small_loss(), training_passes(settings), &trace);
  ASSERT_EQ(seen.size(), training_passes(settings).size() + 1);
  EXPECT_EQ(seen.front(), "model");
  EXPECT_EQ(trace.records.front().nodes_before, std::ssize(small_loss().nodes));
  EXPECT_EQ(trace.records.back().nodes_before, trace.records.end()[-2].nodes_after);
}

TEST(Pipeline, AnUnmetNeedNamesPassAndFact) {
  EXPECT_THAT(error_of(small_loss(), {recompute_pass({})}),
              AllOf(HasSubstr("'recompute'"), HasSubstr("'differentiated'")));
  EXPECT_THAT(error_of(small_loss(), {open_accumulation_pass()}),
              AllOf(HasSubstr("'open_accumulation'"), HasSubstr("'gradients_complete'")));
}

TEST(Pipeline, EveryNeedOfEveryTrainingPassIsChecked) {
  // Each pass on the model's own graph, where no fact holds yet.
  for (const Pass& pass : training_passes(Settings{})) {
    const std::string error = error_of(small_loss(), {pass});
    EXPECT_EQ(error.empty(), pass.needs.empty()) << pass.name << ": " << error;
  }
}

TEST(Pipeline, AFactThatAPassBrokeIsMissedLater) {
  const Settings settings;
  std::vector<Pass> passes = training_passes(settings);
  Pass breaker = nothing("breaker");
  breaker.breaks = {facts::kGradientsComplete};
  passes.push_back(breaker);
  EXPECT_EQ(error_of(small_loss(), passes), "");
  passes.push_back(open_accumulation_pass());
  EXPECT_THAT(error_of(small_loss(), passes),
              AllOf(HasSubstr("'open_accumulation'"), HasSubstr("'gradients_complete'"),
                    HasSubstr("broken")));
}

TEST(Pipeline, AnIllegalGraphNamesThePassThatLeftIt) {
  Pass careless = nothing("careless");
  careless.run = [](Graph graph) {
    std::swap(graph.nodes[1], graph.nodes[2]);
    return graph;
  };
  EXPECT_THAT(error_of(small_loss(), {nothing("careful"), careless}), HasSubstr("'careless'"));
}

TEST(Pipeline, ShorterBucketsAreWhatTheyAreAlone) {
  const Settings settings = make_settings(std::vector{
      from_command_line("activation_checkpointing", "true"), from_command_line("mlp_chunks", "2")});
  StepRequest request{.rows = 2, .lengths = {32, 64}, .accumulate = true, .rope_positions = 64};
  const StepModule both = compile_step(shape_config("tiny"), request, settings, nullptr);
  request.lengths = {32};
  const StepModule alone = compile_step(shape_config("tiny"), request, settings, nullptr);
  int compared = 0;
  for (const Program& program : alone.programs) {
    if (program.name == "init" || program.name == "update") continue;
    const auto same =
        std::find_if(both.programs.begin(), both.programs.end(),
                     [&](const Program& other) { return other.name == program.name; });
    ASSERT_NE(same, both.programs.end()) << program.name;
    // Optimizer states stand in the longest bucket's table alone.
    const auto text = [](Graph graph) {
      graph.parameters = {};
      graph.facts = {};
      return print_graph(graph);
    };
    EXPECT_EQ(text(program.graph), text(same->graph)) << program.name;
    ++compared;
  }
  EXPECT_EQ(compared, 2);
}

TEST(Pipeline, PassesThatAreOffChangeNothing) {
  const Graph before = small_loss();
  const std::string typed = print_graph(run_passes(before, {precision_pass({})}, nullptr));
  EXPECT_EQ(typed.substr(typed.find("parameter")),
            print_graph(before).substr(print_graph(before).find("parameter")));
  Graph differentiated = before;
  differentiated.facts.insert(std::string(facts::kDifferentiated));
  Graph after = run_passes(differentiated, {recompute_pass({})}, nullptr);
  EXPECT_EQ(after.nodes.size(), before.nodes.size());
}

/// How often each stream is drawn from to round, over the nodes of a program.
std::map<std::int64_t, std::vector<std::string>> readers_of_streams(const Graph& graph) {
  const ValueId draw = graph.find("scalar/draw");
  std::map<std::int64_t, std::vector<std::string>> readers;
  for (const Node& node : graph.nodes) {
    if (std::count(node.inputs.begin(), node.inputs.end(), draw) == 0) continue;
    readers[node.attributes.integer("stream")].push_back(graph.value(node.outputs[0]).name);
  }
  return readers;
}

TEST(Pipeline, NoTwoRoundingsOfAProgramDrawTheSameNumbers) {
  ModelConfig config = shape_config("tiny");
  config.num_hidden_layers = 2;
  config.vocab_size = 64;
  config.tie_word_embeddings = true;
  Settings settings = make_settings(std::vector<Assignment>{
      from_command_line("master_weights", "none"), from_command_line("mlp_chunks", "2"),
      from_command_line("activation_checkpointing", "true")});
  const StepModule module =
      compile_step(config, {.rows = 2, .lengths = {32}, .accumulate = true}, settings, nullptr);
  std::size_t streams = 0;
  for (const Program& program : module.programs) {
    for (const auto& [stream, readers] : readers_of_streams(program.graph)) {
      EXPECT_EQ(readers.size(), 1) << program.name << ": " << readers[0] << ", " << readers.back();
      ++streams;
    }
  }
  EXPECT_GT(streams, 2 * module.parameters.size());
}

}  // namespace
}  // namespace snug
