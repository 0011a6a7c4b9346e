#include "backend/host_threads.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <thread>

namespace snug {
namespace {

namespace fs = std::filesystem;

/// CPUs that one group grants: version 2's `cpu.max` holds quota (or `max`) and period, version 1
/// has a file for each; a quota below 1 is none.
std::optional<double> group_quota(const fs::path& group) {
  double quota = 0;
  double period = 0;
  std::ifstream both(group / "cpu.max");
  std::ifstream quota_file(group / "cpu.cfs_quota_us");
  std::ifstream period_file(group / "cpu.cfs_period_us");
  const bool found = (both >> quota >> period) || (quota_file >> quota && period_file >> period);
  if (!found || quota < 1 || period < 1) return std::nullopt;
  return quota / period;
}

/// The least quota of a group and those above it, up to `top`.
std::optional<double> least_quota(const fs::path& top, const std::string& path) {
  std::optional<double> least;
  for (fs::path below = fs::path(path).relative_path();; below = below.parent_path()) {
    if (const auto quota = group_quota(top / below); quota && (!least || *quota < *least)) {
      least = quota;
    }
    if (below.empty()) return least;
  }
}

}  // namespace

int affinity_threads() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) return std::max(1, CPU_COUNT(&mask));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

std::optional<int> quota_threads(const fs::path& root) {
  std::optional<double> least;
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string row; std::getline(groups, row);) {  // `0::/path`, `1:cpu,cpuacct:/path`
    const std::size_t first = row.find(':');
    const std::size_t second = row.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = fmt::format(",{},", row.substr(first + 1, second - first - 1));
    fs::path top = root / "sys/fs/cgroup";
    if (controllers.find(",cpu,") != std::string::npos) {
      top /= "cpu";
    } else if (controllers != ",,") {
      continue;
    }
    const auto quota = least_quota(top, row.substr(second + 1));
    if (quota && (!least || *quota < *least)) least = quota;
  }
  if (!least) return std::nullopt;
  return std::max(1, static_cast<int>(std::min(*least, 4096.0)));
}

}  // namespace snug
