#pragma once
// Files that are mapped to read, and files that must be on disk when writing is said to be done.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "core/error.h"
#include "io/checksums.h"

namespace snug {

/// A file's bytes, mapped read-only and private. Movable, not copyable.
class MappedFile {
 public:
  /// UserError naming the file when it cannot be opened or is no regular file.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }
  /// Gives the pages of a part of the file back; reading them again is still right.
  void drop_pages(std::span<const std::byte> part) const;

 private:
  std::span<const std::byte> bytes_;
};

/// The disk, or what this user may have of it, is full.
class DiskFull : public UserError {
 public:
  using UserError::UserError;
};

/// A file being written, made or cut to nothing. Every failure is a UserError naming the file; a
/// full disk is a DiskFull with the bytes needed.
class OutputFile {
 public:
  /// `expected_bytes` are reserved at once where the file system can, so a disk that is too small
  /// is found before anything is written; 0 when not known.
  OutputFile(std::filesystem::path path, std::int64_t expected_bytes);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::span<const std::byte> bytes);
  /// Makes the file durable and closes it; the checksums are of what was written. Without it the
  /// file is only closed.
  FileChecksums finish();

 private:
  [[noreturn]] void fail(int error) const;
  std::filesystem::path path_;
  std::int64_t expected_bytes_;
  int handle_ = -1;
  BlockHasher hasher_;
  std::int64_t dirty_ = 0;  ///< bytes since the last were sent to the disk
};

/// A whole file as text. UserError when it cannot be read or is larger than `most_bytes`.
std::string read_text(const std::filesystem::path& path, std::int64_t most_bytes = 1'000'000'000);

/// Writes `text` durably in place.
FileChecksums write_text(const std::filesystem::path& path, std::string_view text);

/// Writes `text` durably aside, as `.NAME.tmp`, and renames it over `path`: whatever happens, the
/// old text or the new one is there.
void replace_text(const std::filesystem::path& path, std::string_view text);

/// Copies a file's bytes durably, following links.
FileChecksums copy_file_durably(const std::filesystem::path& from, const std::filesystem::path& to);

/// Makes the names inside `folder` durable.
void sync_folder(const std::filesystem::path& folder);

/// Bytes that this process may still write at `path`, or at its nearest parent that exists.
std::int64_t free_disk_bytes(const std::filesystem::path& path);

}  // namespace snug
