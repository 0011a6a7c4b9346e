#include "io/atomic_folder.h"

#include <fcntl.h>
#include <stdio.h>  // renameat2
#include <unistd.h>

#include <cerrno>
#include <set>
#include <string>
#include <system_error>
#include <vector>

#include "core/error.h"
#include "io/file.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

fs::path aside_of(const fs::path& target) {
  return target.parent_path() / fmt::format(".{}.tmp", target.filename().string());
}

/// `target` without dots and a trailing slash, so that it has a name.
fs::path named(const fs::path& target) {
  const fs::path plain = target.lexically_normal();
  return plain.has_filename() ? plain : plain.parent_path();
}

[[noreturn]] void fail(const fs::path& path, const char* what, const std::error_code& error) {
  user_error("{}: cannot be {}: {}.", path.string(), what, error.message());
}

void sync_file(const fs::path& path) {
  const int handle = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool synced = handle >= 0 && ::fsync(handle) == 0;
  const std::error_code error(errno, std::generic_category());
  if (handle >= 0) ::close(handle);
  if (!synced) fail(path, "made durable", error);
}

void sync_tree(const fs::path& folder) {
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_directory()) {
      sync_folder(entry.path());
    } else {
      sync_file(entry.path());
    }
  }
  sync_folder(folder);
}

void erase(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) fail(path, "removed", error);
}

void move(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) fail(to, "written", error);
}

bool is_weights(const std::string& name) {
  return name.starts_with("model") &&
         (name.ends_with(".safetensors") || name == "model.safetensors.index.json");
}

}  // namespace

void make_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail(folder, "made", error);
}

AtomicFolder::AtomicFolder(const fs::path& target)
    : target_(named(fs::absolute(target))), aside_(aside_of(target_)) {
  if (target_ == named(fs::current_path())) {
    user_error(
        "{}: is the current folder, which a finished one cannot take the place of. Name a "
        "folder in it.",
        target.string());
  }
  erase(aside_);
  make_folders(aside_);
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  fs::remove_all(aside_, ignored);
}

void AtomicFolder::commit() {
  sync_tree(aside_);
  if (fs::exists(target_)) {
    // After the exchange the old folder lies aside, where the destructor or a later run removes it.
    if (::renameat2(AT_FDCWD, aside_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) != 0) {
      const fs::path old = aside_of(target_.string() + ".old");
      erase(old);
      move(target_, old);
      move(aside_, target_);
      erase(old);
    }
  } else {
    move(aside_, target_);
  }
  sync_folder(target_.parent_path());
}

void AtomicFolder::commit_files_into(const fs::path& folder) {
  sync_tree(aside_);
  std::set<std::string> fresh;
  std::vector<fs::path> names;
  for (const auto& entry : fs::directory_iterator(aside_)) {
    names.push_back(entry.path().filename());
    fresh.insert(names.back().string());
  }
  for (const fs::path& name : names) {
    if (fs::is_directory(folder / name)) erase(folder / name);
    move(aside_ / name, folder / name);
  }
  std::vector<fs::path> stale;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (is_weights(name) && !fresh.contains(name)) stale.push_back(entry.path());
  }
  for (const fs::path& path : stale) erase(path);
  sync_folder(folder);
}

void remove_leftovers(const fs::path& parent) {
  std::vector<fs::path> leftovers;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(parent, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with('.') && name.ends_with(".tmp") && entry.is_directory()) {
      leftovers.push_back(entry.path());
    }
  }
  for (const fs::path& path : leftovers) erase(path);
}

void remove_folder(const fs::path& folder) {
  const fs::path aside = aside_of(named(fs::absolute(folder)));
  erase(aside);
  move(folder, aside);
  sync_folder(aside.parent_path());
  erase(aside);
}

}  // namespace snug
