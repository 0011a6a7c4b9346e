// Checksums, the lock and the model of a run's folder, also under kill -9.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <functional>

#include "core/error.h"
#include "io/checksums.h"
#include "io/file.h"
#include "io/folder_lock.h"
#include "io/run_file.h"
#include "io/temporary_folder.h"

namespace snug {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// Runs `action` in a child and gives its exit status; -SIGNAL when a signal ended it.
int in_child(const std::function<int()>& action) {
  const pid_t child = fork();
  if (child == 0) ::_exit(action());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

std::vector<std::byte> pattern(std::int64_t bytes) {
  std::vector<std::byte> data(static_cast<std::size_t>(bytes));
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * i >> 7);
  return data;
}

TEST(Checksums, DoNotDependOnTheParts) {
  const auto data = pattern(kChecksumBlock * 2 + 5);
  const std::span<const std::byte> all(data);
  BlockHasher once;
  once.add(all);
  const FileChecksums whole = once.finish();
  EXPECT_EQ(whole.bytes, std::ssize(data));
  EXPECT_EQ(whole.blocks.size(), 3U);
  BlockHasher parts;
  for (std::size_t at = 0, size = 1; at < data.size(); at += size, size = size * 3 + 1) {
    parts.add(all.subspan(at, std::min(size, data.size() - at)));
  }
  EXPECT_EQ(parts.finish(), whole);
  EXPECT_EQ(parts.finish(), FileChecksums{});
}

TEST(Checksums, EveryChangeIsFoundAndNamed) {
  const TemporaryFolder folder;
  const auto data = pattern(kChecksumBlock + 100);
  OutputFile file(folder / "a", 0);
  file.write(data);
  const FolderChecksums sums = {{"a", file.finish()}, {"empty", write_text(folder / "empty", "")}};
  const auto errors = [&] { return user_error_of([&] { verify_checksums(folder.path()); }); };
  EXPECT_THAT(errors(), HasSubstr("no checksums.json"));
  write_text(folder / kChecksumsFile, checksums_text(sums, "r"));
  EXPECT_EQ(errors(), "no error");
  EXPECT_EQ(run_of(folder.path()), "r");
  auto changed = data;
  changed.back() ^= std::byte{1};
  OutputFile again(folder / "a", 0);
  again.write(changed);
  again.finish();
  EXPECT_THAT(errors(), HasSubstr("a: bytes 4,194,304 to 4,194,404 are not what was written"));
  fs::resize_file(folder / "a", 7);
  EXPECT_THAT(errors(), HasSubstr("a: 7 bytes, 4,194,404 were written"));
  fs::remove(folder / "a");
  EXPECT_THAT(errors(), HasSubstr("a: cannot be opened"));
  for (const char* damaged :
       {"", "{}", "{\"files\":1}", "{\"algorithm\":\"crc\",\"block_bytes\":1}"}) {
    write_text(folder / kChecksumsFile, damaged);
    EXPECT_THAT(errors(), HasSubstr("checksums.json"));
    EXPECT_EQ(run_of(folder.path()), "");
  }
}

TEST(FolderLock, KeepsASecondProcessOutAndNamesTheFirst) {
  const TemporaryFolder folder;
  const fs::path file = folder / "run.lock";
  FolderLock first(file, "'r1'");
  EXPECT_TRUE(first.locks() && first.made());
  const std::string expected = fmt::format("'r1' is being written by process {}. ", ::getpid());
  EXPECT_EQ(in_child([&] {
              const auto error = user_error_of([&] { const FolderLock second(file, "'r1'"); });
              return error.starts_with(expected) ? 0 : 1;
            }),
            0);
  first.remove();
  EXPECT_FALSE(fs::exists(file));
  const FolderLock next(file, "'r1'");
}

TEST(FolderLock, EndsWithAKilledProcessAndIsNotInherited) {
  const TemporaryFolder folder;
  const fs::path file = folder / "run.lock";
  EXPECT_EQ(in_child([&] {
              const FolderLock lock(file, "'r1'");
              // A program that outlives this process; it has what was not closed on its start.
              // NOLINTNEXTLINE(bugprone-command-processor): a shell that goes on is the point
              if (std::system("sleep 5 > /dev/null 2>&1 &") != 0) return 1;
              return ::raise(SIGKILL);
            }),
            -SIGKILL);
  const FolderLock free(file, "'r1'");
  EXPECT_TRUE(free.locks());
  EXPECT_FALSE(free.made());
}

/// From now on flock fails in this process, as on a file system without locks.
bool forbid_locks() {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_flock, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOLCK),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter = {.len = std::size(program), .filter = program};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

TEST(FolderLock, AFileSystemWithoutLocksIsTold) {
  const TemporaryFolder folder;
  constexpr int kNoFilters = 77;
  const int status = in_child([&] {
    if (!forbid_locks()) return kNoFilters;
    return FolderLock(folder / "run.lock", "'r1'").locks() ? 1 : 0;
  });
  if (status == kNoFilters) GTEST_SKIP() << "system call filters are not allowed here";
  EXPECT_EQ(status, 0);
}

/// A save of a model: all files say `text`, there are as many shards as asked for.
void save_model(RunFile& run, const fs::path& folder, const std::string& text, int shards) {
  AtomicFolder aside(folder / "final-model");
  for (int i = 0; i < shards; ++i) {
    write_text(aside.path() / fmt::format("model-{}-of-{}.safetensors", i, shards), text);
  }
  for (const char* name : {"config.json", "config.yaml", "tokenizer.json"}) {
    write_text(aside.path() / name, text);
  }
  run.replace_model(aside);
}

/// What the folder's model says; empty: it holds none. Fails when not every file says the same.
std::string model_in(const fs::path& folder) {
  if (!fs::exists(folder / "config.json")) return "";
  std::string text = read_text(folder / "config.json");
  int shards = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!is_model_file(name)) continue;
    EXPECT_EQ(read_text(entry.path()), text) << name;
    shards += static_cast<int>(name.ends_with(".safetensors"));
  }
  EXPECT_EQ(shards, std::stoi(text.substr(0, 1))) << text;
  return text;
}

TEST(RunFile, ReplacesTheRunsOwnModelOnly) {
  const TemporaryFolder folder;
  write_text(folder / "metrics.jsonl", "kept");
  RunFile run(folder.path(), "");
  save_model(run, folder.path(), "3 old", 3);
  write_text(folder / "model-7-of-9.safetensors", "somebody's");
  save_model(run, folder.path(), "1 new", 1);
  EXPECT_FALSE(fs::exists(folder / "model-0-of-3.safetensors"));
  EXPECT_EQ(read_text(folder / "model-0-of-1.safetensors"), "1 new");
  EXPECT_EQ(read_text(folder / "model-7-of-9.safetensors"), "somebody's");
  EXPECT_EQ(read_text(folder / "metrics.jsonl"), "kept");
  EXPECT_FALSE(fs::exists(folder / ".final-model.tmp"));
  EXPECT_THAT(user_error_of([&] { save_model(run, folder.path(), "9 more", 9); }),
              HasSubstr("model-7-of-9.safetensors' is not this run's. The finished model lies in"));
  EXPECT_EQ(read_text(folder / "model-7-of-9.safetensors"), "somebody's");
  EXPECT_EQ(RunFile::read(folder.path())->id(), run.id());
}

TEST(RunFile, AKillAtAnyMomentLeavesOneModelOrNone) {
  const TemporaryFolder folder;
  RunFile(folder.path(), "id").save();
  int kills = 0;
  constexpr int kRounds = 25;
  for (int round = 0; round < kRounds; ++round) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      RunFile run = *RunFile::read(folder.path());
      run.finish_model();
      for (int save = 0;; ++save) {
        const int shards = 1 + save % 3;
        save_model(run, folder.path(), fmt::format("{} shards, {}", shards, save), shards);
      }
    }
    ::usleep(static_cast<useconds_t>(3000 + 7919 * round % 61001));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    ++kills;
    model_in(folder.path());
    RunFile run = *RunFile::read(folder.path());
    run.finish_model();
    model_in(folder.path());
    if (testing::Test::HasFailure()) FAIL() << "after " << kills << " kills";
  }
}

TEST(RunFile, ADamagedOneIsNamed) {
  const TemporaryFolder folder;
  EXPECT_FALSE(RunFile::read(folder.path()));
  for (const char* text :
       {"", "{}", "{\"run\":\"a\",\"model\":[\"../x\"],\"incoming\":[],\"aside\":\"\"}"}) {
    write_text(folder / RunFile::kName, text);
    EXPECT_THAT(user_error_of([&] { RunFile::read(folder.path()); }), HasSubstr("run.json"));
  }
}

}  // namespace
}  // namespace snug
