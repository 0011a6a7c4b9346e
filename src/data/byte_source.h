#pragma once
// The bytes of a file, unpacked.

#include <filesystem>
#include <memory>
#include <span>

namespace snug {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// Fills the front of `buffer`; how many bytes were written, 0 at the end only. UserError naming
  /// the file when reading or unpacking fails.
  virtual std::size_t read(std::span<char> buffer) = 0;
};

/// Opens a file; .gz (several members) and .zst (several frames, windows of at most 128 MiB) are
/// unpacked.
std::unique_ptr<ByteSource> open_bytes(const std::filesystem::path& file);

}  // namespace snug
