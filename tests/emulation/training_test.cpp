// device=cuda from settings to the saved model, on an emulated card, beside the same run on the
// CPU.

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "support/tiny_model.h"
#include "train/trainer.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

struct Setting {
  const char* name;
  std::vector<std::pair<std::string, std::string>> keys;
};

std::ostream& operator<<(std::ostream& out, const Setting& setting) { return out << setting.name; }

class EmulatedTraining : public ::testing::TestWithParam<Setting> {
 protected:
  static constexpr int kRows = 2;
  static constexpr int kSteps = 2;

  void SetUp() override {
    fs::remove_all(folder_);
    testing::write_tiny_model(folder_ / "model");
    testing::write_tiny_rows(folder_ / "rows.jsonl", kRows);
    setenv("XDG_CACHE_HOME", (folder_ / "cache").c_str(), 1);
  }
  void TearDown() override { fs::remove_all(folder_); }

  /// Losses of the steps, the evaluation's last.
  std::vector<double> losses_on(const std::string& device) {
    const fs::path output = folder_ / device;
    std::vector<Assignment> assignments;
    const auto set = [&](const std::string& key, const std::string& value) {
      assignments.push_back(from_command_line(key, value));
    };
    set("model", (folder_ / "model").string());
    set("data", (folder_ / "rows.jsonl").string());
    set("eval_file", (folder_ / "rows.jsonl").string());
    set("output_dir", output.string());
    set("device", device);
    set("learning_rate", "3e-3");
    set("max_steps", std::to_string(kSteps));
    set("save_strategy", "no");
    set("logging_steps", "1");
    set("global_batch_size", std::to_string(kRows));
    for (const auto& [key, value] : GetParam().keys) set(key, value);
    std::ostringstream talk;
    Trainer trainer(make_settings(assignments), {talk, false});
    const TrainResult result = trainer.run();
    EXPECT_EQ(result.used_peak_bytes, result.played_peak_bytes);
    EXPECT_TRUE(fs::exists(output / "model.safetensors") ||
                fs::exists(output / "adapter_model.safetensors"));
    std::vector<double> losses;
    std::ifstream metrics(output / "metrics.jsonl");
    for (std::string line; std::getline(metrics, line);) {
      const auto row = nlohmann::json::parse(line);
      for (const char* key : {"loss", "eval_loss"}) {
        if (row.contains(key)) losses.push_back(row.at(key).get<double>());
      }
    }
    return losses;
  }

  const fs::path folder_ =
      fs::temp_directory_path() / ("snug-emulated-" + std::to_string(getpid()));
};

/// The back ends round other intermediate results: forward's roundings show in each loss, and what
/// updates made of backward's in the later ones.
TEST_P(EmulatedTraining, LossesAreTheCpus) {
  const std::vector<double> cpu = losses_on("cpu");
  const std::vector<double> card = losses_on("cuda");
  const auto& keys = GetParam().keys;
  const bool wide = std::find(keys.begin(), keys.end(),
                              std::pair<std::string, std::string>("bf16", "false")) != keys.end();
  ASSERT_EQ(card.size(), cpu.size());
  ASSERT_GE(cpu.size(), static_cast<std::size_t>(kSteps));
  for (std::size_t i = 0; i < cpu.size(); ++i) {
    EXPECT_NEAR(card[i], cpu[i], (wide ? 1e-4 : 0x1p-7) * cpu[i]) << "loss " << i + 1;
  }
  EXPECT_LT(card.back(), card.front());
}

INSTANTIATE_TEST_SUITE_P(
    Settings, EmulatedTraining,
    ::testing::Values(Setting{"fp32", {{"bf16", "false"}, {"activation_checkpointing", "true"}}},
                      Setting{"bf16", {{"per_device_train_batch_size", "1"}}},
                      Setting{"no_master_8bit",
                              {{"master_weights", "none"},
                               {"optim", "adamw_8bit"},
                               {"max_grad_norm", "0"},
                               {"update_in_backward", "true"}}},
                      Setting{"fp16", {{"fp16", "true"}, {"packing", "true"}}},
                      Setting{"qlora", {{"finetuning_type", "lora"}, {"load_in_4bit", "true"}}}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace snug
