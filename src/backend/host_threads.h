#pragma once
// How many threads of this process can run at once.

#include <filesystem>
#include <optional>
#include <string_view>

namespace snug {

/// CPUs of the affinity mask.
int affinity_threads();

/// Whole CPUs that the control groups of this process grant it, at least 1; none without a quota.
/// `root` stands for `/` in tests.
std::optional<int> quota_threads(const std::filesystem::path& root = "/");

}  // namespace snug
