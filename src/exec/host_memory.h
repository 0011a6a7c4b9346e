#pragma once
// How much memory this process may still take.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace snug {

/// Bytes that can be taken without swapping or being killed: the least of MemAvailable and, for
/// each control group the process is in, its limit minus what it uses (page cache that the kernel
/// can drop does not count as used). `root` stands for `/` in tests.
std::int64_t available_host_memory(const std::filesystem::path& root = "/");

/// The same, and which figure was the least: `MemAvailable`, or a control group's files.
struct HostRoom {
  std::int64_t bytes = 0;
  std::string from;
};
HostRoom host_room(const std::filesystem::path& root = "/");

/// The number of kB that a line `KEY: 123 kB` of /proc/meminfo gives, in bytes.
std::optional<std::int64_t> meminfo_bytes(std::string_view text, std::string_view key);

/// Resident bytes of this process now.
std::int64_t resident_bytes();

}  // namespace snug
