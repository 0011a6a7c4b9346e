#include "backend/host_threads.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

namespace snug {
namespace {

namespace fs = std::filesystem;

/// A root folder with the files that the kernel would show.
class HostThreads : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(testing::TempDir()) /
            testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(root_);
  }
  void TearDown() override { fs::remove_all(root_); }

  void write(const fs::path& path, const std::string& text) const {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  fs::path root_;
};

TEST_F(HostThreads, NoGroupsMeansNoQuota) { EXPECT_EQ(quota_threads(root_), std::nullopt); }

TEST_F(HostThreads, AffinityIsAtLeastOne) { EXPECT_GE(affinity_threads(), 1); }

TEST_F(HostThreads, VersionTwoTakesTheLeastQuotaUpToTheTop) {
  write("proc/self/cgroup", "0::/a/b\n");
  write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(quota_threads(root_), std::nullopt);
  write("sys/fs/cgroup/a/cpu.max", "250000 100000\n");
  EXPECT_EQ(quota_threads(root_), 2);
  write("sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_EQ(quota_threads(root_), 1);
}

TEST_F(HostThreads, VersionOneFindsTheControllerAmongOthers) {
  write("proc/self/cgroup", "5:cpuset:/x\n3:cpu,cpuacct:/job\n1:name=systemd:/\n");
  write("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "300000\n");
  write("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota_threads(root_), 3);
}

}  // namespace
}  // namespace snug
