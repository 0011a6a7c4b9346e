#pragma once
// Checksums of files' contents, block by block, so that parts can be written and checked apart.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace snug {

/// Bytes of a block; the last one of a file may be shorter.
inline constexpr std::int64_t kChecksumBlock = std::int64_t{4} << 20;

/// A file's content: its size, and XXH3 (64 bits) of each block.
struct FileChecksums {
  std::int64_t bytes = 0;
  std::vector<std::uint64_t> blocks;
  bool operator==(const FileChecksums&) const = default;
};

/// Takes a file's bytes in order, in parts of any size.
class BlockHasher {
 public:
  BlockHasher();
  ~BlockHasher();
  BlockHasher(const BlockHasher&) = delete;
  BlockHasher& operator=(const BlockHasher&) = delete;

  void add(std::span<const std::byte> bytes);
  /// Of all bytes added; the hasher is then empty again.
  FileChecksums finish();

 private:
  void end_block();
  struct State;
  std::unique_ptr<State> state_;
  std::int64_t in_block_ = 0;
  FileChecksums sums_;
};

/// By names relative to their folder.
using FolderChecksums = std::map<std::string, FileChecksums>;

/// The side file of a checkpoint.
inline constexpr const char* kChecksumsFile = "checksums.json";

/// What goes into it. `run` says whose the folder is.
std::string checksums_text(const FolderChecksums& files, const std::string& run);

/// Reads every file that the folder's side file names and compares. UserError naming the file and
/// the bytes that differ, or what is missing. Holds one block's pages.
void verify_checksums(const std::filesystem::path& folder);

/// The run that the folder's side file names; empty when there is none that can be read.
std::string run_of(const std::filesystem::path& folder);

}  // namespace snug
