#pragma once
// A lock on a folder that ends with the process, however that ends.

#include <filesystem>
#include <string>

namespace snug {

/// Holds flock on a file for its life. The descriptor is closed in programs that are started
/// meanwhile, so none of them keeps the lock. The file's text (process, machine) is for messages.
class FolderLock {
 public:
  /// Takes the lock, making the file where needed. UserError when another process holds it, naming
  /// `what` and that process; or when the file cannot be made.
  FolderLock(std::filesystem::path file, const std::string& what);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

  /// False where the file system has no locks: nothing keeps a second process out.
  bool locks() const { return locks_; }
  /// Whether the file was not there before.
  bool made() const { return made_; }
  /// Removes the file, and so the lock.
  void remove();

 private:
  bool open_and_lock(const std::string& what);
  std::filesystem::path file_;
  int handle_ = -1;
  bool locks_ = true;
  bool made_ = false;
};

}  // namespace snug
