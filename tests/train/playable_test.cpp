// What stays of a recipe plays as the whole does.

#include "plan/playable.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/settings_load.h"
#include "core/settings_table.h"
#include "passes/recompute.h"
#include "support/tiny_model.h"
#include "train/request.h"
#include "train/step_runner.h"
#include "train/weights.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

class Playable : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(folder_);
    testing::write_tiny_model(folder_ / "model");
    testing::write_tiny_rows(folder_ / "rows.jsonl", 16);
    const std::vector<Assignment> assignments = {
        from_command_line("model", (folder_ / "model").string()),
        from_command_line("data", (folder_ / "rows.jsonl").string()),
        from_command_line("per_device_train_batch_size", "2"),
        from_command_line("global_batch_size", "4"), from_command_line("device_memory", "4GiB")};
    settings_ = make_settings(assignments);
    model_ = open_model(settings_.model);
    data_ = open_rows(settings_, model_);
    request_ = make_request(settings_, model_, data_, nullptr);
  }
  void TearDown() override { fs::remove_all(folder_); }

  StepOutcome step(const Recipe& recipe, Executor& executor, ThreadPool& pool) {
    executor.play(recipe.module->script.init);
    fill_weights(
        recipe.module->parameters, model_, 1,
        [&](std::string_view name) { return executor.bytes(name); }, pool);
    const std::vector<std::int64_t> rows = {0, 1, 2, 3};
    StepRunner runner(recipe, executor);
    runner.train(data_.train, rows, 1e-3, 0);
    return runner.train(data_.train, rows, 1e-3, 1);
  }

  const fs::path folder_ =
      fs::path(::testing::TempDir()) / fmt::format("snug_playable_{}", getpid());
  Settings settings_;
  ModelSource model_;
  DataSource data_;
  RunRequest request_;
};

TEST_F(Playable, PortsLieWhereTheyLay) {
  const Recipe recipe = make_recipe(request_, model_);
  const Recipe reduced = playable(recipe);
  int ports = 0;
  for (std::size_t p = 0; p < recipe.plan.programs.size(); ++p) {
    const auto program = static_cast<std::int32_t>(p);
    for (const char* name : {"input/ids", "input/labels", "metric/loss", "metric/grad_norm"}) {
      ASSERT_EQ(reduced.plan.has_location(program, name), recipe.plan.has_location(program, name));
      if (!recipe.plan.has_location(program, name)) continue;
      ++ports;
      const Location before = recipe.plan.location(program, name);
      const Location after = reduced.plan.location(program, name);
      EXPECT_EQ(after.offset, before.offset);
      EXPECT_EQ(after.layout, before.layout);
    }
    EXPECT_TRUE(reduced.plan.graph(program).nodes.empty());
  }
  EXPECT_GE(ports, 4);
  for (const Root& root : recipe.plan.roots) {
    EXPECT_EQ(reduced.plan.location(root.name).offset, recipe.plan.location(root.name).offset);
  }
}

TEST_F(Playable, AStepIsTheSameToTheBit) {
  ThreadPool pool(2);
  const Recipe whole = make_recipe(request_, model_);
  Executor before(whole.plan, reserve_arenas(whole.plan, pool), pool);
  Recipe recipe = make_recipe(request_, model_);
  const auto after = make_executor(recipe, pool, {});
  const StepOutcome expected = step(whole, before, pool);
  const StepOutcome actual = step(recipe, *after, pool);
  EXPECT_EQ(actual.loss_sum, expected.loss_sum);
  EXPECT_EQ(actual.grad_norm, expected.grad_norm);
  for (const Root& root : whole.plan.roots) {
    if (root.scope != Scope::run) continue;
    const auto a = before.bytes(root.name);
    const auto b = after->bytes(root.name);
    EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end())) << root.name;
  }
  EXPECT_EQ(after->used_peak(Space::device), before.used_peak(Space::device));
}

TEST_F(Playable, WhatLiesBesideTheArenaGrowsWithWhatIsThere) {
  const Recipe recipe = make_recipe(request_, model_);
  EXPECT_EQ(recipe.needed_bytes,
            std::max(recipe.plan.arena(Space::device).bytes + recipe.outside.total(),
                     recipe.planning_bytes));
  EXPECT_GE(recipe.outside.rows, data_.train.bytes());
  EXPECT_GE(recipe.outside.page_tables, recipe.plan.arena(Space::device).bytes / 512);
  std::int64_t instructions = 0;
  for (const ProgramPlan& program : recipe.plan.programs) {
    instructions += static_cast<std::int64_t>(program.instructions.size());
  }
  // What is read is the data's own; all else has a bound for any model.
  EXPECT_LE(recipe.outside.total() - recipe.outside.rows, (25 << 20) + 250 * instructions);
}

TEST_F(Playable, AResumedRunKeepsItsRecipeWhileItFits) {
  settings_.batch = {.global_batch_size = 4,
                     .per_device_train_batch_size = std::nullopt,
                     .gradient_accumulation_steps = std::nullopt};
  Progression before;
  before.trainer.train_batch_size = 1;
  before.recompute = "true";
  std::string said;
  const Recipe kept = make_recipe(make_request(settings_, model_, data_, &before), model_, &said);
  EXPECT_EQ(kept.micro_rows, 1);
  EXPECT_FALSE(is_automatic(kept.settings.recompute));
  EXPECT_EQ(find_setting("activation_checkpointing").row->field.print(kept.settings), "true");
  EXPECT_EQ(said, "");
  settings_.device.memory->count = 1;
  const Recipe none = make_recipe(make_request(settings_, model_, data_, &before), model_, &said);
  EXPECT_FALSE(none.fits);
  EXPECT_NE(said.find("activation_checkpointing=true does not fit"), std::string::npos) << said;
}

}  // namespace
}  // namespace snug
