#pragma once
// Folders that appear whole or not at all, whatever stops the process.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "io/folder_lock.h"

namespace snug {

/// A folder written aside as `.NAME.tmp` in the same parent, then renamed to NAME. Removed with all
/// it holds if it was not committed. While it is aside it holds a locked mark: what a killed
/// process left is known by it and removed by the next; a folder without it is nobody's to remove.
class AtomicFolder {
 public:
  /// Makes the folder aside, and its parents where needed. UserError when another process writes
  /// it, and when something else has that name.
  explicit AtomicFolder(const std::filesystem::path& target);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  /// Where to write.
  const std::filesystem::path& path() const { return aside_; }
  /// Makes everything durable and renames it into place. UserError when something has that name by
  /// now, but for an empty folder.
  void commit();
  /// The same, in exchange for a folder that is there already and is the caller's to remove.
  void replace();
  /// Makes everything durable and leaves it aside for good; gives the names in it.
  std::vector<std::string> keep_aside();

 private:
  void finish();
  std::filesystem::path target_;
  std::filesystem::path aside_;
  std::unique_ptr<FolderLock> mark_;
};

/// `.NAME.tmp` beside `target`.
std::filesystem::path aside_of(const std::filesystem::path& target);

/// Makes a folder and its parents. UserError naming it on failure.
void make_folders(const std::filesystem::path& folder);

/// Makes a folder, and its parents where needed. False when it is there already.
bool make_new_folder(const std::filesystem::path& folder);

/// Removes what killed AtomicFolders and removals left aside in `parent`, and nothing else.
void remove_leftovers(const std::filesystem::path& parent);

/// Removes a folder, which must be the caller's, so that no moment shows it half removed: it is
/// renamed aside first.
void remove_folder(const std::filesystem::path& folder);

}  // namespace snug
