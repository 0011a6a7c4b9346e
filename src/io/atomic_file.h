#pragma once
// A file that appears whole or not at all, whatever stops the process.

#include <filesystem>
#include <optional>

#include "io/atomic_folder.h"

namespace snug {

/// A file written in a folder `.NAME.tmp` beside it (see AtomicFolder), then renamed to NAME.
/// Removed if it was not committed.
class AtomicFile {
 public:
  /// Makes the folder where needed.
  explicit AtomicFile(const std::filesystem::path& target);

  /// Where to write; the writer makes the contents durable.
  const std::filesystem::path& path() const { return aside_; }
  /// Renames the file into place and makes its name durable. UserError when the name is taken.
  void commit();

 private:
  std::filesystem::path target_;
  std::optional<AtomicFolder> folder_;
  std::filesystem::path aside_;
};

}  // namespace snug
