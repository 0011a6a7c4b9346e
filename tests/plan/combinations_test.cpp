// What settings exclude is refused with the nearest that work.

#include "plan/combinations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/cpu/cpu_backend.h"
#include "core/error.h"
#include "core/settings_load.h"
#include "model/shapes.h"

namespace snug {
namespace {

using ::testing::HasSubstr;

std::string refusal(std::vector<Assignment> words, std::int64_t budget) {
  words.push_back(from_command_line("update_in_backward", "true"));
  words.push_back(from_command_line("activation_checkpointing", "true"));
  const RecipeRequest request{
      .config = shape_config("tiny"),
      .settings = make_settings(words),
      .lengths = {256},
      .rope_positions = 256,
      .target = {.backend = "cpu", .isa = Isa::avx2, .threads = 1, .libraries = {}},
      .budget_bytes = budget};
  try {
    choose_recipe(request, CpuBackend(), nullptr);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(Combinations, AccumulationExcludesUpdatesInBackward) {
  const std::vector<Assignment> words{from_command_line("max_grad_norm", "0"),
                                      from_command_line("per_device_train_batch_size", "2"),
                                      from_command_line("gradient_accumulation_steps", "8")};
  EXPECT_THAT(refusal(words, std::int64_t{1} << 40),
              HasSubstr("update_in_backward with gradient_accumulation_steps=8: each micro-batch "
                        "would update. Nearest: accumulation 1, or keep gradients"));
  EXPECT_THAT(refusal(words, 1), HasSubstr("Nearest: accumulation 1 at max_length=64, or"));
}

TEST(Combinations, ClippingExcludesUpdatesInBackward) {
  EXPECT_THAT(refusal({from_command_line("max_grad_norm", "0.5")}, std::int64_t{1} << 40),
              HasSubstr("max_grad_norm=0.5: the norm of all gradients is known only after the "
                        "first updates. Nearest: max_grad_norm=0, or keep gradients"));
}

TEST(Combinations, AnOpenMicroBatchTakesAllRows) {
  const RecipeRequest request{
      .config = shape_config("tiny"),
      .settings = make_settings(std::vector<Assignment>{
          from_command_line("update_in_backward", "true"), from_command_line("max_grad_norm", "0"),
          from_command_line("global_batch_size", "4")}),
      .lengths = {64},
      .rope_positions = 64,
      .target = {.backend = "cpu", .isa = Isa::avx2, .threads = 1, .libraries = {}},
      .budget_bytes = 1};
  const Recipe recipe = choose_recipe(request, CpuBackend(), nullptr);
  EXPECT_EQ(recipe.micro_rows, 4);
  EXPECT_FALSE(recipe.fits);
}

}  // namespace
}  // namespace snug
