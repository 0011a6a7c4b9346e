#include "exec/host_memory.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>

namespace snug {
namespace {

namespace fs = std::filesystem;

/// Empty when the file is not there.
std::string read_text(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::optional<std::int64_t> parse_number(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return std::nullopt;
  text.remove_prefix(first);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end == text.data()) return std::nullopt;
  return value;
}

/// The text after `key` at the start of a line.
std::optional<std::string_view> after_key(std::string_view text, std::string_view key) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view row = text.substr(at, end - at);
    if (row.starts_with(key)) return row.substr(key.size());
    at = end + 1;
  }
  return std::nullopt;
}

/// Limit minus use of one control group, both versions' file names; none when it has no limit.
std::optional<std::int64_t> room_in(const fs::path& group, std::string_view limit_file,
                                    std::string_view usage_file, std::string_view cache_key) {
  const std::optional<std::int64_t> limit = parse_number(read_text(group / limit_file));
  const std::optional<std::int64_t> usage = parse_number(read_text(group / usage_file));
  if (!limit || !usage) return std::nullopt;  // `max`: no limit
  std::int64_t cache = 0;
  const std::string stat = read_text(group / "memory.stat");
  if (const auto text = after_key(stat, cache_key)) cache = parse_number(*text).value_or(0);
  return *limit - (*usage - std::min(cache, *usage));
}

void lower(HostRoom& room, std::int64_t bytes, std::string from) {
  if (bytes < room.bytes) room = {bytes, std::move(from)};
}

/// Lowers `room` to the least in a group and those above it, up to `top`.
void lower_up_to(HostRoom& room, const fs::path& top, std::string_view path,
                 std::string_view limit_file, std::string_view usage_file,
                 std::string_view cache_key) {
  fs::path below(path);
  while (true) {
    const fs::path group = top / below.relative_path();
    if (const auto here = room_in(group, limit_file, usage_file, cache_key)) {
      lower(room, *here,
            std::string(limit_file) + " - " + std::string(usage_file) + " of " + group.string());
    }
    if (!below.has_relative_path()) return;
    below = below.parent_path();
  }
}

void lower_to_control_groups(HostRoom& room, const fs::path& root) {
  const std::string groups = read_text(root / "proc/self/cgroup");
  if (auto path = after_key(groups, "0::")) {
    lower_up_to(room, root / "sys/fs/cgroup", *path, "memory.max", "memory.current",
                "inactive_file ");
  }
  for (std::size_t at = 0; at < groups.size();) {  // version 1: `9:memory:/path`
    const std::size_t end = std::min(groups.find('\n', at), groups.size());
    const std::string_view row = std::string_view(groups).substr(at, end - at);
    at = end + 1;
    const std::size_t controller = row.find(":memory:");
    if (controller == std::string_view::npos) continue;
    lower_up_to(room, root / "sys/fs/cgroup/memory", row.substr(controller + 8),
                "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ");
  }
}

}  // namespace

std::optional<std::int64_t> meminfo_bytes(std::string_view text, std::string_view key) {
  const auto rest = after_key(text, std::string(key) + ":");
  if (!rest) return std::nullopt;
  const auto kilobytes = parse_number(*rest);
  if (!kilobytes || *kilobytes > std::numeric_limits<std::int64_t>::max() / 1024) {
    return std::nullopt;
  }
  return *kilobytes * 1024;
}

std::int64_t available_host_memory(const fs::path& root) { return host_room(root).bytes; }

HostRoom host_room(const fs::path& root) {
  HostRoom room{std::numeric_limits<std::int64_t>::max(), "what can be addressed"};
  const auto free = meminfo_bytes(read_text(root / "proc/meminfo"), "MemAvailable");
  if (free) lower(room, *free, "MemAvailable");
  lower_to_control_groups(room, root);
  room.bytes = std::max<std::int64_t>(0, room.bytes);
  return room;
}

std::int64_t resident_bytes() {
  const std::string text = read_text("/proc/self/statm");
  const std::size_t space = text.find(' ');
  if (space == std::string::npos) return 0;
  return parse_number(std::string_view(text).substr(space)).value_or(0) * sysconf(_SC_PAGESIZE);
}

}  // namespace snug
