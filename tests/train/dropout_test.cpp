// What dropout draws for a token belongs to the token: to its row of the data and its position.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "support/tiny_model.h"
#include "train/trainer.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

class DropoutDraws : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(folder_);
    testing::write_tiny_model(folder_ / "model");
    testing::write_tiny_rows(folder_ / "rows.jsonl", 16);
  }
  void TearDown() override { fs::remove_all(folder_); }

  /// The gradients' norm of one step on all rows. New adapters have no part in the result yet, and
  /// their gradients are made of the dropped inputs.
  double gradient_norm(const std::vector<std::pair<std::string, std::string>>& more) {
    const fs::path output = folder_ / "run";
    fs::remove_all(output);
    std::vector<Assignment> assignments;
    const auto set = [&](const std::string& key, const std::string& value) {
      assignments.push_back(from_command_line(key, value));
    };
    set("model", (folder_ / "model").string());
    set("data", (folder_ / "rows.jsonl").string());
    set("output_dir", output.string());
    set("finetuning_type", "lora");
    set("lora_dropout", "0.5");
    set("bf16", "false");
    set("max_steps", "1");
    set("save_strategy", "no");
    set("max_length", "64");
    for (const auto& [key, value] : more) set(key, value);
    std::ostringstream talk;
    Trainer(make_settings(assignments), {talk, false}).run();
    std::ifstream metrics(output / "metrics.jsonl");
    std::string line;
    std::getline(metrics, line);
    return nlohmann::json::parse(line).at("grad_norm").get<double>();
  }

  const fs::path folder_ =
      fs::path(::testing::TempDir()) / fmt::format("snug_dropout_{}", getpid());
};

TEST_F(DropoutDraws, DependOnNoMicroBatchAndNoPacking) {
  const double apart =
      gradient_norm({{"per_device_train_batch_size", "16"}, {"gradient_accumulation_steps", "1"}});
  // Only the order of sums over some hundred tokens differs.
  const double bound = 1e-5 * apart;
  EXPECT_NEAR(
      apart,
      gradient_norm({{"per_device_train_batch_size", "4"}, {"gradient_accumulation_steps", "4"}}),
      bound);
  EXPECT_NEAR(apart,
              gradient_norm({{"per_device_train_batch_size", "16"},
                             {"gradient_accumulation_steps", "1"},
                             {"packing", "true"}}),
              bound);
  EXPECT_GT(std::abs(apart - gradient_norm({{"per_device_train_batch_size", "16"},
                                            {"gradient_accumulation_steps", "1"},
                                            {"seed", "43"}})),
            100 * bound);
}

}  // namespace
}  // namespace snug
