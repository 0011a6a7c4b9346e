#pragma once
// What a path that does not exist was meant to be.

#include <filesystem>
#include <optional>

namespace snug {

/// An existing path spelled nearly like `path`, folder by folder; none when nothing is near.
std::optional<std::filesystem::path> near_path(const std::filesystem::path& path);

}  // namespace snug
