#include "io/hub_cache.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>

namespace snug {
namespace {

std::optional<std::string> variable(const std::string& name) {
  const char* value =
      std::getenv(name.c_str());  // NOLINT(concurrency-mt-unsafe): nothing sets variables
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

/// A user's home in the password database; none of this name: the process's own user's when the
/// name is empty.
std::optional<std::string> home_of(const std::string& name) {
  std::array<char, 16384> room{};
  passwd entry{};
  passwd* found = nullptr;
  if (name.empty()) {
    getpwuid_r(getuid(), &entry, room.data(), room.size(), &found);
  } else {
    getpwnam_r(name.c_str(), &entry, room.data(), room.size(), &found);
  }
  return found == nullptr ? std::nullopt : std::optional<std::string>(found->pw_dir);
}

/// Python's os.path.join of two parts.
std::string join(const std::string& folder, const std::string& name) {
  return folder.empty() || folder.ends_with('/') ? folder + name : folder + "/" + name;
}

bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

std::string expand(const std::string& path) { return expand_variables(expand_user(path)); }

}  // namespace

std::string expand_user(const std::string& path) {
  if (!path.starts_with('~')) return path;
  const std::size_t end = std::min(path.find('/'), path.size());
  const std::string name = path.substr(1, end - 1);
  std::optional<std::string> home = name.empty() ? variable("HOME") : std::nullopt;
  if (!home) home = home_of(name);
  if (!home) return path;
  while (home->ends_with('/')) home->pop_back();
  const std::string whole = *home + path.substr(end);
  return whole.empty() ? "/" : whole;
}

std::string expand_variables(const std::string& path) {
  std::string result;
  for (std::size_t at = 0; at < path.size();) {
    const bool braces = path.compare(at, 2, "${") == 0;
    const std::size_t begin = at + (braces ? 2 : 1);
    std::size_t end = begin;
    if (braces) {
      end = path.find('}', begin);
    } else {
      while (end < path.size() && is_name(path[end])) ++end;
    }
    if (path[at] != '$' || end == path.npos || (!braces && end == begin)) {
      result += path[at++];
      continue;
    }
    const std::size_t next = end + (braces ? 1 : 0);
    result += variable(path.substr(begin, end - begin)).value_or(path.substr(at, next - at));
    at = next;
  }
  return result;
}

std::filesystem::path hub_cache() {
  const std::string caches = variable("XDG_CACHE_HOME").value_or(join(expand_user("~"), ".cache"));
  const std::string home = expand(variable("HF_HOME").value_or(join(caches, "huggingface")));
  const std::string older = variable("HUGGINGFACE_HUB_CACHE").value_or(join(home, "hub"));
  return expand(variable("HF_HUB_CACHE").value_or(older));
}

}  // namespace snug
