#include "exec/arena.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <string>
#include <utility>

#include "backend/null/null.h"
#include "core/error.h"
#include "exec/host_memory.h"
#include "ir/builder.h"

namespace snug {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

TEST(Arena, IsZeroedAndPresent) {
  ThreadPool pool(2);
  for (const std::int64_t bytes : {std::int64_t{64}, std::int64_t{5} << 20}) {
    const Arena arena = Arena::in_memory(bytes, pool);
    ASSERT_EQ(arena.bytes(), bytes);
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    std::vector<unsigned char> present((static_cast<std::size_t>(bytes) + page - 1) / page);
    ASSERT_EQ(mincore(arena.data(), static_cast<std::size_t>(bytes), present.data()), 0);
    EXPECT_TRUE(std::all_of(present.begin(), present.end(), [](auto p) { return (p & 1) != 0; }));
    EXPECT_TRUE(std::all_of(arena.span().begin(), arena.span().end(),
                            [](std::byte b) { return b == std::byte{0}; }));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(arena.data()) % 4096, 0U);
  }
}

TEST(Arena, NothingIsFine) {
  ThreadPool pool(1);
  EXPECT_EQ(Arena::in_memory(0, pool).bytes(), 0);
  EXPECT_EQ(Arena::on_disk(0, "/nowhere").bytes(), 0);
}

TEST(Arena, MovesItsMemory) {
  ThreadPool pool(1);
  Arena a = Arena::in_memory(4096, pool);
  std::byte* data = a.data();
  Arena b = std::move(a);
  EXPECT_EQ(b.data(), data);
  b = Arena::in_memory(8192, pool);
  EXPECT_EQ(b.bytes(), 8192);
}

void touch(std::byte* address) { *static_cast<volatile std::byte*>(address) = std::byte{1}; }

TEST(ArenaDeathTest, GuardPagesStopStrayWrites) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  ThreadPool pool(1);
  const Arena arena = Arena::in_memory(std::int64_t{4} << 20, pool);
  EXPECT_DEATH(touch(arena.data() - 1), "");
  EXPECT_DEATH(touch(arena.data() + arena.bytes()), "");
}

TEST(Arena, LivesOnDisk) {
  const Arena arena = Arena::on_disk(100'000, fs::temp_directory_path());
  std::fill(arena.span().begin(), arena.span().end(), std::byte{7});
  EXPECT_EQ(arena.data()[99'999], std::byte{7});
  EXPECT_THROW(Arena::on_disk(4096, "/no/such/folder"), UserError);
}

TEST(Arena, APlanLargerThanTheMachineIsRefusedBeforeAnythingIsReserved) {
  StepModule module;
  Graph graph("huge");
  Builder builder(graph);
  const ValueId x =
      builder.input("input/x", {DType::f32, {std::int64_t{1} << 45}}, Role::input, Scope::call);
  graph.outputs.push_back(builder.one(Op::copy, {x}, {}, "y"));
  module.programs.push_back({"huge", std::move(graph)});
  const Plan plan = make_plan(module, *make_null_kernels(), {});
  ThreadPool pool(1);
  try {
    reserve_arenas(plan, pool);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("does not fit: the plan needs 256.00 TiB"));
    EXPECT_THAT(error.what(), HasSubstr("device_memory="));
  }
}

class HostMemory : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / fmt::format("snug_host_memory_{}", getpid());
    write("proc/meminfo", "MemTotal: 16000 kB\nMemAvailable:    8000 kB\n");
  }
  void TearDown() override { fs::remove_all(root_); }
  void write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  fs::path root_;
};

TEST_F(HostMemory, IsWhatTheKernelCallsAvailable) {
  EXPECT_EQ(available_host_memory(root_), 8000 * 1024);
  EXPECT_EQ(host_room(root_).from, "MemAvailable");
}

TEST_F(HostMemory, AnyControlGroupAboveLimitsIt) {
  write("proc/self/cgroup", "0::/a/b\n");
  write("sys/fs/cgroup/a/b/memory.max", "max\n");
  write("sys/fs/cgroup/a/b/memory.current", "100\n");
  write("sys/fs/cgroup/a/memory.max", "5000000\n");
  write("sys/fs/cgroup/a/memory.current", "2000000\n");
  EXPECT_EQ(available_host_memory(root_), 3'000'000);
  write("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 500000\n");
  EXPECT_EQ(available_host_memory(root_), 3'500'000);
}

TEST_F(HostMemory, ReadsVersionOneGroups) {
  write("proc/self/cgroup", "12:cpu:/x\n9:memory:/x\n");
  write("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "1000000");
  write("sys/fs/cgroup/memory/x/memory.usage_in_bytes", "400000");
  EXPECT_EQ(available_host_memory(root_), 600'000);
  EXPECT_EQ(host_room(root_).from, "memory.limit_in_bytes - memory.usage_in_bytes of " +
                                       (root_ / "sys/fs/cgroup/memory/x").string());
}

TEST_F(HostMemory, AnOverfullGroupHasNothingLeft) {
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/memory.max", "1000");
  write("sys/fs/cgroup/memory.current", "4000");
  EXPECT_EQ(available_host_memory(root_), 0);
}

TEST(HostMemoryHere, ThisMachineHasSome) {
  EXPECT_GT(available_host_memory(), 1 << 20);
  EXPECT_GT(resident_bytes(), 1 << 20);
}

TEST(Meminfo, OddLinesGiveNothing) {
  EXPECT_EQ(meminfo_bytes("MemAvailable: 12 kB", "MemAvailable"), 12 * 1024);
  EXPECT_EQ(meminfo_bytes("MemAvailable: ?", "MemAvailable"), std::nullopt);
  EXPECT_EQ(meminfo_bytes("MemAvailable: 99999999999999999999 kB", "MemAvailable"), std::nullopt);
  EXPECT_EQ(meminfo_bytes("MemAvailable: 9223372036854775807 kB", "MemAvailable"), std::nullopt);
  EXPECT_EQ(meminfo_bytes("", "MemAvailable"), std::nullopt);
}

}  // namespace
}  // namespace snug
