#pragma once
// Folders that appear whole or not at all, whatever stops the process.

#include <filesystem>

namespace snug {

/// A folder written aside as `.NAME.tmp` in the same parent, then renamed to NAME. Removed with all
/// it holds if it was not committed.
class AtomicFolder {
 public:
  /// Makes the folder aside, and its parents where needed; an old one of that name is emptied.
  explicit AtomicFolder(const std::filesystem::path& target);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  /// Where to write.
  const std::filesystem::path& path() const { return aside_; }
  /// Makes everything durable and renames it into place. A folder that is there already is
  /// exchanged in one step and then removed.
  void commit();
  /// Makes everything durable and moves the files one by one into `folder`, which stays otherwise
  /// as it is, but for weights (model*.safetensors, the index) of an earlier save.
  void commit_files_into(const std::filesystem::path& folder);

 private:
  std::filesystem::path target_;
  std::filesystem::path aside_;
};

/// Makes a folder and its parents. UserError naming it on failure.
void make_folders(const std::filesystem::path& folder);

/// Removes what killed runs left aside in `parent`.
void remove_leftovers(const std::filesystem::path& parent);

/// Removes a folder so that no moment shows it half removed: renamed aside first.
void remove_folder(const std::filesystem::path& folder);

}  // namespace snug
