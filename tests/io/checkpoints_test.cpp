#include "io/checkpoints.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <limits>

#include "io/atomic_folder.h"
#include "io/checksums.h"
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

void write_checkpoint(const fs::path& output_dir, int step, const std::string& run = "ours") {
  AtomicFolder folder(output_dir / fmt::format("checkpoint-{}", step));
  FolderChecksums sums;
  sums["trainer_state.json"] =
      write_text(folder.path() / "trainer_state.json", fmt::format("{{\"global_step\":{}}}", step));
  sums["model.safetensors"] = write_safetensors(
      folder.path() / "model.safetensors", {{"a", DType::f32, {100}}},
      [](const TensorSpec& tensor, ModelFolderWriter::Sink sink) {
        const std::vector<std::byte> zeros(static_cast<std::size_t>(byte_count(tensor)));
        sink(zeros);
      });
  write_text(folder.path() / kChecksumsFile, checksums_text(sums, run));
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
    folder.replace();
  }
  EXPECT_THAT(names_in(parent.path()), ElementsAre("checkpoint-5"));
  EXPECT_THAT(names_in(parent / "checkpoint-5"), ElementsAre("only-new"));
}

TEST(AtomicFolder, TakesNobodysPlaceUnasked) {
  const TemporaryFolder parent;
  AtomicFolder folder(parent / "model");
  fs::create_directory(parent / "model");
  write_text(parent / "model/a", "somebody's");
  EXPECT_THAT(user_error_of([&] { folder.commit(); }), HasSubstr("cannot be written"));
  EXPECT_EQ(read_text(parent / "model/a"), "somebody's");
  fs::remove(parent / "model/a");
  folder.commit();
  EXPECT_TRUE(fs::is_empty(parent / "model"));
}

TEST(AtomicFolder, AFolderWithoutTheMarkIsNobodysToRemove) {
  const TemporaryFolder parent;
  fs::create_directory(parent / ".model.tmp");
  write_text(parent / ".model.tmp/a", "somebody's");
  EXPECT_THAT(user_error_of([&] { const AtomicFolder folder(parent / "model"); }),
              HasSubstr("was not made by snug"));
  remove_leftovers(parent.path());
  EXPECT_EQ(read_text(parent / ".model.tmp/a"), "somebody's");
}

TEST(AtomicFolder, TwoWritersOfOneFolderAreKeptApart) {
  const TemporaryFolder parent;
  AtomicFolder first(parent / "model");
  write_text(first.path() / "a", "1");
  EXPECT_THAT(user_error_of([&] { const AtomicFolder second(parent / "model"); }),
              HasSubstr(fmt::format("is being written by process {}", ::getpid())));
  remove_leftovers(parent.path());
  first.commit();
  EXPECT_THAT(names_in(parent / "model"), ElementsAre("a"));
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

TEST(Checkpoints, RotationDropsTheRunsOldestButNeverTheNewest) {
  const TemporaryFolder run;
  for (const int step : {5, 10, 15, 20}) write_checkpoint(run.path(), step);
  write_checkpoint(run.path(), 3, "another");
  rotate_checkpoints(run.path(), 0, "ours");
  EXPECT_THAT(steps_in(run.path()), ElementsAre(3, 5, 10, 15, 20));
  rotate_checkpoints(run.path(), 3, "ours");
  EXPECT_THAT(steps_in(run.path()), ElementsAre(3, 10, 15, 20));
  rotate_checkpoints(run.path(), 1, "ours");
  EXPECT_THAT(names_in(run.path()), UnorderedElementsAre("checkpoint-3", "checkpoint-20"));
  EXPECT_GT(folder_bytes(run.path()), 400);
}

TEST(Checkpoints, WhatIsNotTheRunsKeepsItsContentsUnderAnotherName) {
  const TemporaryFolder run;
  write_checkpoint(run.path(), 5);
  EXPECT_EQ(set_aside_other(run / "checkpoint-5", "ours"), fs::path());
  const fs::path other = set_aside_other(run / "checkpoint-5", "another");
  EXPECT_EQ(other, run / "checkpoint-5.other-1");
  EXPECT_EQ(run_of(other), "ours");
  EXPECT_THAT(steps_in(run.path()), ElementsAre());
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
