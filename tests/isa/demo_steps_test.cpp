// Twenty steps of the demo's training with the instruction sets that SNUG_TEST_ISA allows
// (avx2|avx512|avx512_bf16|amx; unset: all).

#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "cli/demo_model.h"
#include "cli/demo_task.h"
#include "core/settings_load.h"
#include "io/atomic_folder.h"
#include "train/trainer.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

TEST(DemoSteps, LearnWithinThePlan) {
  const fs::path folder = fs::path(testing::TempDir()) / "snug_demo_steps";
  fs::remove_all(folder);
  make_folders(folder / "model");
  write_demo_model(folder / "model", 1);
  const DemoTask task = make_demo_task({.train = 1280, .evaluation = 0, .held_out = 5}, 1);
  write_demo_rows(folder / "train.jsonl", task.train);
  const char* cap = std::getenv("SNUG_TEST_ISA");
  std::vector<Assignment> assignments;
  for (const auto& [key, value] : std::vector<std::pair<std::string, std::string>>{
           {"model", (folder / "model").string()},
           {"data", (folder / "train.jsonl").string()},
           {"output_dir", (folder / "run").string()},
           {"instruction_set", cap == nullptr ? "auto" : cap},
           {"global_batch_size", "64"},
           {"per_device_train_batch_size", "32"},
           {"activation_checkpointing", "true"},
           {"learning_rate", "2e-3"},
           {"max_steps", "20"}}) {
    assignments.push_back(from_command_line(key, value));
  }
  std::ostringstream talk;
  Trainer trainer(make_settings(assignments), {talk, false});
  const TrainResult result = trainer.run();
  // It starts at ln(260) = 5.6; knowing that answers are letters alone gives ln(26) = 3.3.
  EXPECT_GT(result.first_loss, 5);
  EXPECT_LT(result.last_loss, 3.3) << talk.str();
  EXPECT_EQ(result.steps, 20);
  EXPECT_EQ(result.used_peak_bytes, result.planned_peak_bytes);
  fs::remove_all(folder);
}

}  // namespace
}  // namespace snug
