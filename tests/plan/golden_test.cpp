// Golden memory: bytes that a change to a pass, a grant or the placement must not move unnoticed.

#include <gtest/gtest.h>

#include <cctype>
#include <sstream>
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
  const char* settings;  ///< key=value, a space between two
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
  std::istringstream text(golden.settings);
  std::vector<Assignment> assignments;
  for (std::string word; text >> word;) {
    const auto equals = word.find('=');
    assignments.push_back(from_command_line(word.substr(0, equals), word.substr(equals + 1)));
  }
  const StepRequest request{.rows = golden.rows,
                            .lengths = {golden.length},
                            .accumulate = golden.accumulate,
                            .evaluation_lengths = {golden.length},
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
    {"qwen3-4b", "activation_checkpointing=segments:6", 1, 4096, true, 65'010'442'816},
    {"llama-3.1-8b",
     "activation_checkpointing=true master_weights=none optim=adamw_8bit max_grad_norm=0", 2, 2048,
     false, 48'467'198'528},
    {"llama-3.1-8b",
     "activation_checkpointing=true master_weights=none optim=adamw_8bit max_grad_norm=0 "
     "update_in_backward=true",
     2, 2048, false, 34'688'897'728},
    {"qwen0.5b",
     "activation_checkpointing=true master_weights=none optim=adafactor max_grad_norm=0 "
     "update_in_backward=true",
     2, 512, false, 1'361'582'976},
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

TEST(GoldenMemory, FourBitsAndAQuarterAWeightOnLlama2) {
  // 32 layers of 4 x 4096^2 + 3 x 4096 x 11008 weights in 224 matrices: half a byte each, a scale
  // byte for 64, four bytes for 16,384 and for each matrix.
  const StepModule module = compile_generation(
      shape_config("llama-2-7b"), {.tokens = 1, .cache_rows = 1, .logit_rows = 1},
      make_settings(std::vector{from_command_line("load_in_4bit", "true"),
                                from_command_line("bnb_4bit_use_double_quant", "true")}));
  std::int64_t bytes = 0;
  for (const Parameter& parameter : module.parameters) {
    if (parameter.storage.front().format == "plain") continue;
    for (const StorageComponent& part : parameter.storage) bytes += part.type.bytes();
  }
  const std::int64_t weights = 6'476'005'376;
  EXPECT_EQ(bytes, weights / 2 + weights / 64 + weights / 64 / 256 * 4 + std::int64_t{224} * 4);
}

}  // namespace
}  // namespace snug
