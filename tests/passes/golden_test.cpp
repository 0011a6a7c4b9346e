// Each pass against a text of the graph before and after it: tests/passes/golden/NAME.txt, the two
// parted by a line "----". SNUG_UPDATE_GOLDEN=1 writes what the pass makes now, for the diff to
// show.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "ir/text.h"
#include "passes/accumulate.h"
#include "passes/autodiff.h"
#include "passes/chunk_loss.h"
#include "passes/extract.h"
#include "passes/optimizer.h"
#include "passes/precision.h"
#include "passes/recompute.h"

namespace snug {
namespace {

constexpr std::int64_t kSeed = 7;
constexpr std::string_view kParting = "----\n";

struct GoldenCase {
  std::string name;
  Pass pass;
  friend std::ostream& operator<<(std::ostream& out, const GoldenCase& test) {
    return out << test.name;
  }
};

Pass extract(const std::string& program, const std::vector<Phase>& phases) {
  return {.name = "extract", .run = [program, phases](const Graph& graph) {
            return extract_program(graph, program, [&](const Node& node) {
              return std::find(phases.begin(), phases.end(), node.phase) != phases.end();
            });
          }};
}

std::vector<GoldenCase> golden_cases() {
  using Policy = RecomputeOptions::Policy;
  const OptimizerSettings optimizer{.arguments = {}, .weight_decay = 0.1, .max_grad_norm = 1};
  return {
      {"precision_master", precision_pass({.bf16 = true})},
      {"precision_no_master",
       precision_pass({.bf16 = true, .master_weights = MasterWeights::none})},
      {"precision_fp32", precision_pass({.bf16 = false})},
      {"chunk_loss", chunk_loss_pass({.chunk = {8192}})},
      {"chunk_loss_off", chunk_loss_pass({.chunk = {0}})},
      {"autodiff", autodiff_pass(DType::bf16, kSeed)},
      {"autodiff_fp32", autodiff_pass(DType::f32, kSeed)},
      {"adamw_master", optimizer_pass(optimizer, kSeed)},
      {"adamw_no_master", optimizer_pass(optimizer, kSeed)},
      {"recompute_true", recompute_pass({Policy::every_block, 0})},
      {"recompute_cheap", recompute_pass({Policy::cheap, 0})},
      {"recompute_keep_attention", recompute_pass({Policy::keep_attention, 0})},
      {"open_accumulation", open_accumulation_pass()},
      {"accumulate", accumulate_pass(kSeed)},
      {"accumulate_fp32", accumulate_pass(kSeed)},
      {"extract_micro", extract("micro.16.first", {Phase::forward, Phase::backward})},
      {"extract_update", extract("update", {Phase::update})},
      {"extract_init", extract("init", {Phase::init})},
  };
}

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.good()) << path;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

class GoldenPass : public testing::TestWithParam<GoldenCase> {};

TEST_P(GoldenPass, MakesTheTextThatIsWritten) {
  const auto path = std::filesystem::path(SNUG_TEST_DATA).parent_path() / "passes" / "golden" /
                    (GetParam().name + ".txt");
  const std::string text = read(path);
  const std::size_t parting = text.find(kParting);
  ASSERT_NE(parting, std::string::npos) << "no line ---- in " << path;
  const std::string before = text.substr(0, parting);
  const Graph graph = parse_graph(before);
  EXPECT_EQ(print_graph(graph), before) << "the text before is not as it would be printed";
  const std::string after = print_graph(run_passes(graph, {GetParam().pass}, nullptr));
  if (std::getenv("SNUG_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(path) << before << kParting << after;
  }
  EXPECT_EQ(after, text.substr(parting + kParting.size()));
}

INSTANTIATE_TEST_SUITE_P(Passes, GoldenPass, testing::ValuesIn(golden_cases()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace snug
