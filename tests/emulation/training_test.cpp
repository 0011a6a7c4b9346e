// device=cuda from settings to the saved model, on an emulated card, beside the same run on the
// CPU.

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "support/tiny_model.h"
#include "train/trainer.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

using Keys = std::vector<std::pair<std::string, std::string>>;

Keys least_memory() {
  return {{"master_weights", "none"},
          {"optim", "adamw_8bit"},
          {"max_grad_norm", "0"},
          {"update_in_backward", "true"}};
}

class OnEmulatedCard : public ::testing::Test {
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

  /// Trains into folder_ / output and returns what was said.
  std::string train(const std::string& output, const std::string& device, const Keys& more) {
    const std::string rows = (folder_ / "rows.jsonl").string();
    Keys keys = {
        {"model", (folder_ / "model").string()},     {"data", rows},      {"eval_file", rows},
        {"output_dir", (folder_ / output).string()}, {"device", device},  {"learning_rate", "3e-3"},
        {"max_steps", std::to_string(kSteps)},       {"save_steps", "1"}, {"logging_steps", "1"},
        {"global_batch_size", std::to_string(kRows)}};
    keys.insert(keys.end(), more.begin(), more.end());
    std::vector<Assignment> assignments;
    for (const auto& [key, value] : keys) assignments.push_back(from_command_line(key, value));
    std::ostringstream talk;
    Trainer trainer(make_settings(assignments), {talk, false});
    const TrainResult result = trainer.run();
    EXPECT_EQ(result.used_peak_bytes, result.played_peak_bytes);
    return talk.str();
  }

  /// Losses of the steps and of evaluations, in order.
  std::vector<double> losses(const std::string& output) const {
    std::vector<double> losses;
    std::ifstream metrics(folder_ / output / "metrics.jsonl");
    for (std::string line; std::getline(metrics, line);) {
      const auto row = nlohmann::json::parse(line);
      for (const char* key : {"loss", "eval_loss"}) {
        if (row.contains(key)) losses.push_back(row.at(key).get<double>());
      }
    }
    return losses;
  }

  std::string saved(const std::string& file) const {
    std::ifstream in(folder_ / file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  const fs::path folder_ =
      fs::temp_directory_path() / ("snug-emulated-" + std::to_string(getpid()));
};

TEST_F(OnEmulatedCard, ResumedEqualsUninterrupted) {
  Keys keys = least_memory();
  train("whole", "cuda", keys);
  keys.emplace_back("resume_from_checkpoint", (folder_ / "whole" / "checkpoint-1").string());
  train("rest", "cuda", keys);
  ASSERT_FALSE(saved("whole/model.safetensors").empty());
  EXPECT_EQ(saved("rest/model.safetensors"), saved("whole/model.safetensors"));
  EXPECT_NE(saved("whole/checkpoint-1/model.safetensors"), saved("whole/model.safetensors"));
}

TEST_F(OnEmulatedCard, ItsRemarksAreToldOnce) {
  const std::string said = train("run", "cuda", {{"bf16", "false"}});
  const auto at = said.find("warning: emulated\n");
  ASSERT_NE(at, std::string::npos) << said;
  EXPECT_EQ(said.find("warning: emulated", at + 1), std::string::npos) << said;
}

struct Setting {
  const char* name;
  Keys keys;
};

std::ostream& operator<<(std::ostream& out, const Setting& setting) { return out << setting.name; }

class EmulatedTraining : public OnEmulatedCard, public ::testing::WithParamInterface<Setting> {};

/// The back ends round other intermediate results: forward's roundings show in each loss, and what
/// updates made of backward's in the later ones.
TEST_P(EmulatedTraining, LossesAreTheCpus) {
  const Keys& keys = GetParam().keys;
  train("cpu", "cpu", keys);
  train("card", "cuda", keys);
  const std::vector<double> cpu = losses("cpu");
  const std::vector<double> card = losses("card");
  const bool wide = std::ranges::find(keys, Keys::value_type("bf16", "false")) != keys.end();
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
                      Setting{"no_master_8bit", least_memory()},
                      Setting{"fp16", {{"fp16", "true"}, {"packing", "true"}}},
                      Setting{"qlora", {{"finetuning_type", "lora"}, {"load_in_4bit", "true"}}}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace snug
