#include "io/checkpoints.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <limits>

#include "io/atomic_folder.h"
#include "io/file.h"
#include "io/model_writer.h"
#include "io/temporary_folder.h"

namespace snug {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  return names;
}

void write_checkpoint(const fs::path& output_dir, int step) {
  AtomicFolder folder(output_dir / fmt::format("checkpoint-{}", step));
  write_text(folder.path() / "trainer_state.json", fmt::format("{{\"global_step\":{}}}", step));
  write_safetensors(
      folder.path() / "model.safetensors", {{"a", DType::f32, {100}}},
      [](const TensorSpec& tensor, ModelFolderWriter::Sink sink) {
        const std::vector<std::byte> zeros(static_cast<std::size_t>(byte_count(tensor)));
        sink(zeros);
      });
  folder.commit();
}

std::vector<std::int64_t> steps_in(const fs::path& output_dir) {
  std::vector<std::int64_t> steps;
  for (const Checkpoint& checkpoint : list_checkpoints(output_dir))
    steps.push_back(checkpoint.step);
  return steps;
}

TEST(AtomicFolder, AppearsOnlyWhenCommitted) {
  const TemporaryFolder parent;
  {
    AtomicFolder folder(parent / "deep/checkpoint-5");
    write_text(folder.path() / "a", "1");
    EXPECT_FALSE(fs::exists(parent / "deep/checkpoint-5"));
    folder.commit();
    EXPECT_EQ(read_text(parent / "deep/checkpoint-5/a"), "1");
  }
  {
    AtomicFolder abandoned(parent / "deep/checkpoint-6");
    write_text(abandoned.path() / "a", "2");
  }
  EXPECT_THAT(names_in(parent / "deep"), ElementsAre("checkpoint-5"));
}

TEST(AtomicFolder, ReplacesAFolderOfTheSameName) {
  const TemporaryFolder parent;
  for (const std::string text : {"old", "new"}) {
    AtomicFolder folder(parent / "checkpoint-5/");
    write_text(folder.path() / ("only-" + text), text);
    folder.commit();
  }
  EXPECT_THAT(names_in(parent.path()), ElementsAre("checkpoint-5"));
  EXPECT_THAT(names_in(parent / "checkpoint-5"), ElementsAre("only-new"));
}

TEST(AtomicFolder, TheCurrentFolderIsRefusedByName) {
  for (const char* name : {".", "./", "a/.."}) {
    try {
      const AtomicFolder folder{fs::path(name)};
      ADD_FAILURE() << name << " was taken";
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find("current folder"), std::string::npos);
    }
  }
}

TEST(AtomicFolder, FilesMoveIntoARunningFolder) {
  const TemporaryFolder run;
  write_text(run / "metrics.jsonl", "kept");
  write_text(run / "model.safetensors", "stale: a single file would win over the shards");
  write_text(run / "config.json", "old");
  AtomicFolder folder(run / "model");
  write_text(folder.path() / "config.json", "new");
  write_text(folder.path() / "model-00001-of-00002.safetensors", "1");
  folder.commit_files_into(run.path());
  EXPECT_EQ(read_text(run / "config.json"), "new");
  EXPECT_EQ(read_text(run / "metrics.jsonl"), "kept");
  EXPECT_FALSE(fs::exists(run / "model.safetensors"));
  EXPECT_TRUE(fs::exists(run / "model-00001-of-00002.safetensors"));
}

TEST(AtomicFolder, LeftoversOfAKilledRunGo) {
  const TemporaryFolder run;
  write_checkpoint(run.path(), 10);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    AtomicFolder folder(run / "checkpoint-20");
    write_text(folder.path() / "trainer_state.json", "{}");
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_THAT(names_in(run.path()), UnorderedElementsAre("checkpoint-10", ".checkpoint-20.tmp"));
  EXPECT_EQ(latest_checkpoint(run.path()).found->step, 10);
  remove_leftovers(run.path());
  EXPECT_THAT(names_in(run.path()), ElementsAre("checkpoint-10"));
  remove_leftovers(run / "none");
}

TEST(Checkpoints, TheLatestIsTheHighestNumberThatLoads) {
  const TemporaryFolder run;
  EXPECT_FALSE(latest_checkpoint(run / "none").found);
  for (const int step : {9, 100, 20}) write_checkpoint(run.path(), step);
  fs::create_directory(run / "checkpoint-best");
  fs::create_directory(run / "my-checkpoint-500");
  write_text(run / "checkpoint-900", "a file");
  EXPECT_THAT(steps_in(run.path()), ElementsAre(9, 20, 100));
  EXPECT_EQ(latest_checkpoint(run.path()).found->step, 100);

  fs::resize_file(run / "checkpoint-100/model.safetensors", 200);
  fs::create_directory(run / "checkpoint-200");
  const LatestCheckpoint latest = latest_checkpoint(run.path());
  EXPECT_EQ(latest.found->step, 20);
  EXPECT_THAT(latest.skipped,
              ElementsAre(HasSubstr("checkpoint-200: no trainer_state.json"),
                          HasSubstr("checkpoint-100/model.safetensors: 'a' ends at byte")));
  write_text(run / "checkpoint-20/rng_state.json", "{\"seed\":");
  EXPECT_EQ(latest_checkpoint(run.path()).found->step, 9);
  const auto nothing_loads = [](const fs::path&) { user_error("no"); };
  EXPECT_FALSE(latest_checkpoint(run.path(), nothing_loads).found);
}

TEST(Checkpoints, RotationDropsTheOldestButNeverTheNewest) {
  const TemporaryFolder run;
  for (const int step : {5, 10, 15, 20}) write_checkpoint(run.path(), step);
  rotate_checkpoints(run.path(), 0);
  EXPECT_THAT(steps_in(run.path()), ElementsAre(5, 10, 15, 20));
  rotate_checkpoints(run.path(), 3);
  EXPECT_THAT(steps_in(run.path()), ElementsAre(10, 15, 20));
  rotate_checkpoints(run.path(), 1, run / "checkpoint-10");
  EXPECT_THAT(steps_in(run.path()), ElementsAre(10, 20));
  rotate_checkpoints(run.path(), 1);
  EXPECT_THAT(steps_in(run.path()), ElementsAre(20));
  EXPECT_THAT(names_in(run.path()), ElementsAre("checkpoint-20"));
  EXPECT_GT(folder_bytes(run.path()), 400);
}

TEST(Disk, TheLineAddsUpWhatTheRunNeeds) {
  const DiskNeed need = {.checkpoints = 2,
                         .checkpoint_bytes = 96'400'000'000,
                         .model_bytes = 16'100'000'000,
                         .present_bytes = 0};
  EXPECT_EQ(need.total(), 305'300'000'000);
  EXPECT_EQ(need.line(212'000'000'000),
            "disk: 2 checkpoints × 96.4 GB + one in writing + model 16.1 GB = 305.3 GB, free 212 "
            "GB");
  const DiskNeed huge = {.checkpoints = 100,
                         .checkpoint_bytes = std::numeric_limits<std::int64_t>::max() / 2,
                         .model_bytes = 1,
                         .present_bytes = 0};
  EXPECT_EQ(huge.total(), std::numeric_limits<std::int64_t>::max());
}

TEST(Disk, TooLittleSpaceIsRefused) {
  const TemporaryFolder run;
  const std::int64_t free = free_disk_bytes(run / "not/yet/there");
  EXPECT_GT(free, 0);
  DiskNeed need = {
      .checkpoints = 1, .checkpoint_bytes = free, .model_bytes = 0, .present_bytes = 0};
  EXPECT_THAT(user_error_of([&] { check_disk(need, run / "not/yet/there"); }),
              AllOf(HasSubstr("disk: 1 checkpoint × "), HasSubstr("save_total_limit")));
  need.present_bytes = free + free / 2;
  EXPECT_EQ(user_error_of([&] { check_disk(need, run.path()); }), "no error");
}

}  // namespace
}  // namespace snug
