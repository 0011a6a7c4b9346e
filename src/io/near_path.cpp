#include "io/near_path.h"

#include <string>
#include <vector>

#include "core/text.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostEntries = 1000;  // of a folder that are looked at

std::optional<fs::path> nearest_in(const fs::path& folder, const std::string& name) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator entry(folder.empty() ? "." : folder, error), end;
       !error && entry != end && names.size() < kMostEntries; entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  const std::vector<std::string_view> candidates(names.begin(), names.end());
  const auto guess = nearest(name, candidates);
  if (!guess) return std::nullopt;
  return folder / *guess;
}

}  // namespace

std::optional<fs::path> near_path(const fs::path& path) {
  if (!path.has_filename()) {
    return path.has_relative_path() ? near_path(path.parent_path()) : std::nullopt;
  }
  fs::path folder = path.parent_path();
  std::error_code ignored;
  if (!folder.empty() && !fs::is_directory(folder, ignored)) {
    const auto near = near_path(folder);
    if (!near) return std::nullopt;
    folder = *near;
    if (fs::exists(folder / path.filename(), ignored)) return folder / path.filename();
  }
  return nearest_in(folder, path.filename().string());
}

}  // namespace snug
