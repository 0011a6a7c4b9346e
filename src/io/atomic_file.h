#pragma once
// A file that appears whole or not at all, whatever stops the process.

#include <filesystem>

namespace snug {

/// A file written aside as `.NAME.tmp` in the same folder, then renamed to NAME. Removed if it was
/// not committed.
class AtomicFile {
 public:
  /// Makes the folder where needed.
  explicit AtomicFile(const std::filesystem::path& target);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Where to write; the writer makes the contents durable.
  const std::filesystem::path& path() const { return aside_; }
  /// Renames the file into place, over one that is there, and makes its name durable.
  void commit();

 private:
  std::filesystem::path target_;
  std::filesystem::path aside_;
};

}  // namespace snug
