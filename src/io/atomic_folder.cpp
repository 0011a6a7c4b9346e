#include "io/atomic_folder.h"

#include <fcntl.h>
#include <stdio.h>  // renameat2
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <vector>

#include "core/error.h"
#include "io/file.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMark = ".snug-aside";

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

/// Removes a marked folder, the mark last: what is left of it when this is cut off is still marked.
void erase_marked(const fs::path& folder) {
  std::vector<fs::path> contents;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename() != kMark) contents.push_back(entry.path());
  }
  for (const fs::path& path : contents) erase(path);
  erase(folder / kMark);
  erase(folder);
}

std::string being_written(const fs::path& aside) { return fmt::format("'{}'", aside.string()); }

bool is_marked(const fs::path& folder) {
  return fs::is_directory(fs::symlink_status(folder)) &&
         fs::is_regular_file(fs::symlink_status(folder / kMark));
}

/// Makes room for `aside`: only what a killed process left there goes.
void clear_aside(const fs::path& aside) {
  std::error_code ignored;
  if (!fs::exists(fs::symlink_status(aside, ignored))) return;
  if (is_marked(aside)) {
    const FolderLock ours(aside / kMark, being_written(aside));
    erase_marked(aside);
    return;
  }
  // Without its mark only when it was just made, or is about to be gone: then it is empty.
  if (::rmdir(aside.c_str()) == 0 || errno == ENOENT) return;
  user_error("'{}' is in the way and was not made by snug. Move it away.", aside.string());
}

/// Marks a folder that is about to go.
void mark(const fs::path& folder) {
  const int handle = ::open((folder / kMark).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (handle < 0) fail(folder, "removed", {errno, std::generic_category()});
  ::close(handle);
}

}  // namespace

fs::path aside_of(const fs::path& target) {
  return target.parent_path() / fmt::format(".{}.tmp", target.filename().string());
}

void make_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail(folder, "made", error);
}

bool make_new_folder(const fs::path& folder) {
  const fs::path plain = named(fs::absolute(folder));
  make_folders(plain.parent_path());
  if (::mkdir(plain.c_str(), 0777) == 0) return true;
  if (errno != EEXIST) fail(folder, "made", {errno, std::generic_category()});
  return false;
}

AtomicFolder::AtomicFolder(const fs::path& target)
    : target_(named(fs::absolute(target))), aside_(aside_of(target_)) {
  if (target_ == named(fs::current_path())) {
    user_error(
        "{}: is the current folder, which a finished one cannot take the place of. Name a "
        "folder in it.",
        target.string());
  }
  while (mark_ == nullptr) {
    clear_aside(aside_);
    if (!make_new_folder(aside_)) continue;
    try {
      mark_ = std::make_unique<FolderLock>(aside_ / kMark, being_written(aside_));
    } catch (const UserError&) {
      // Another start took the folder, empty as it was, for a leftover.
      if (fs::exists(aside_)) throw;
    }
  }
}

AtomicFolder::~AtomicFolder() {
  if (mark_ == nullptr) return;
  try {
    erase_marked(aside_);
  } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch): the next start removes it
  }
}

void AtomicFolder::commit() {
  sync_tree(aside_);
  move(aside_, target_);  // over nothing, or over an empty folder: rename refuses others
  finish();
}

void AtomicFolder::replace() {
  sync_tree(aside_);
  if (!fs::exists(target_)) {
    move(aside_, target_);
  } else {
    mark(target_);
    if (::renameat2(AT_FDCWD, aside_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) == 0) {
      erase_marked(aside_);
    } else {
      const fs::path old = aside_of(target_.string() + ".old");
      clear_aside(old);
      move(target_, old);
      move(aside_, target_);
      erase_marked(old);
    }
  }
  finish();
}

void AtomicFolder::finish() {
  erase(target_ / kMark);
  mark_.reset();
  sync_folder(target_.parent_path());
}

std::vector<std::string> AtomicFolder::keep_aside() {
  sync_tree(aside_);
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(aside_)) {
    std::string name = entry.path().filename().string();
    if (name != kMark) names.push_back(std::move(name));
  }
  mark_.reset();
  return names;
}

void remove_leftovers(const fs::path& parent) {
  std::vector<fs::path> leftovers;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(parent, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with('.') && name.ends_with(".tmp") && is_marked(entry.path())) {
      leftovers.push_back(entry.path());
    }
  }
  for (const fs::path& path : leftovers) {
    try {
      clear_aside(path);
    } catch (const UserError&) {  // NOLINT(bugprone-empty-catch): its writer lives
    }
  }
}

void remove_folder(const fs::path& folder) {
  const fs::path plain = named(fs::absolute(folder));
  const fs::path aside = aside_of(plain);
  clear_aside(aside);
  mark(plain);
  move(plain, aside);
  sync_folder(aside.parent_path());
  erase_marked(aside);
}

}  // namespace snug
