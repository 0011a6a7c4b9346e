// Golden memory: bytes that a change to a pass, a grant or the placement must not move unnoticed.

#include <gtest/gtest.h>

#include <cctype>
#include <string>

#include "backend/cpu/cpu_backend.h"
#include "core/settings_load.h"
#include "model/shapes.h"
#include "passes/pipeline.h"
#include "plan/plan.h"

namespace snug {
namespace {

struct Golden {
  const char* shape;
  const char* settings;  ///< one key=value
  std::int64_t rows;
  std::int64_t length;
  bool accumulate;
  std::int64_t arena_bytes;
};

/// The target the figures are for.
Target golden_target() {
  return {.backend = "cpu", .isa = Isa::amx, .threads = 2, .libraries = {}};
}

StepModule compile(const Golden& golden) {
  const std::string text = golden.settings;
  const auto equals = text.find('=');
  const std::vector<Assignment> assignments = {
      from_command_line(text.substr(0, equals), text.substr(equals + 1))};
  const StepRequest request{.rows = golden.rows,
                            .lengths = {golden.length},
                            .accumulate = golden.accumulate,
                            .evaluate = true,
                            .rope_positions = golden.length};
  return compile_step(shape_config(golden.shape), request, make_settings(assignments), nullptr);
}

class GoldenMemory : public testing::TestWithParam<Golden> {};

TEST_P(GoldenMemory, IsWhatItWasAndAtTheBound) {
  const Golden& golden = GetParam();
  const StepModule module = compile(golden);
  const CpuBackend backend;
  const Plan plan = make_plan(module, backend, golden_target());
  const ArenaPlan& arena = plan.arena(Space::device);
  EXPECT_EQ(arena.bytes, golden.arena_bytes);
  EXPECT_LE(static_cast<double>(arena.bytes), 1.01 * static_cast<double>(arena.lower_bound));
}

constexpr Golden kFigures[] = {
    {"smol135m", "activation_checkpointing=false", 4, 512, false, 3'034'829'760},
    {"smol135m", "activation_checkpointing=true", 4, 512, false, 2'188'586'304},
    {"smol135m", "activation_checkpointing=false", 1, 512, true, 2'455'227'968},
    {"qwen0.5b", "activation_checkpointing=false", 2, 512, false, 8'235'119'424},
    {"llama-3.2-3b", "activation_checkpointing=true", 2, 4096, false, 52'054'995'520},
    {"llama-3.1-8b", "activation_checkpointing=cheap", 2, 2048, false, 128'518'865'280},
    {"qwen3-4b", "activation_checkpointing=segments:6", 1, 4096, true, 67'194'102'336},
    {"llama-3-70b", "activation_checkpointing=true", 8, 4096, false, 1'135'067'243'008},
};

std::string name_of_case(const testing::TestParamInfo<Golden>& test) {
  std::string name = fmt::format("{}_{}x{}_{}", test.param.shape, test.param.rows,
                                 test.param.length, test.param.settings);
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  return name + (test.param.accumulate ? "_accumulate" : "");
}

INSTANTIATE_TEST_SUITE_P(Recipes, GoldenMemory, testing::ValuesIn(kFigures), name_of_case);

TEST(GoldenMemory, SixteenBytesAParameterOnLlama2) {
  // The guide's 16 N: bf16 weights and gradients, fp32 master and two moments. Llama-2-7B has
  // 6,738,415,616 parameters: 107.81 GB.
  const ModelConfig config = shape_config("llama-2-7b");
  const StepModule module =
      compile({"llama-2-7b", "activation_checkpointing=true", 1, 128, true, 0});
  const CpuBackend backend;
  const Plan plan = make_plan(module, backend, golden_target());
  std::int64_t bytes = 0;
  for (const Root& root : plan.roots) {
    if (root.role == Role::weight || root.role == Role::master || root.role == Role::gradient ||
        root.role == Role::optimizer_state) {
      bytes += root.bytes;
    }
  }
  EXPECT_EQ(bytes, 16 * parameter_count(config));
  EXPECT_EQ(bytes, 107'814'649'856);
}

}  // namespace
}  // namespace snug
