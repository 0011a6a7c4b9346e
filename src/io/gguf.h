#pragma once
// The GGUF container, version 3 (ggml's docs/gguf.md): magic, counts, metadata, tensor infos, then
// the tensors' data, each aligned to 32 bytes. Everything little-endian.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/file.h"
#include "io/ggml_types.h"

namespace snug {

/// The metadata of a file: typed values under dotted keys, in the order of adding. A key that is
/// added twice is an InternalError.
class GgufMetadata {
 public:
  void add(std::string_view key, std::uint32_t value);
  void add(std::string_view key, float value);
  void add(std::string_view key, bool value);
  void add(std::string_view key, std::string_view value);
  /// A literal would become a bool.
  void add(std::string_view key, const char* value) { add(key, std::string_view(value)); }
  void add(std::string_view key, std::span<const std::string> values);
  void add(std::string_view key, std::span<const std::int32_t> values);
  void add(std::string_view key, std::span<const float> values);

  std::int64_t count() const { return static_cast<std::int64_t>(keys_.size()); }
  /// As it stands in a file.
  const std::string& bytes() const { return bytes_; }

 private:
  void begin(std::string_view key);
  void begin_array(std::string_view key, std::uint32_t type, std::size_t count);

  std::set<std::string, std::less<>> keys_;
  std::string bytes_;
};

/// A tensor to be written. Quantised types need rows of whole blocks.
struct GgufTensor {
  std::string name;
  GgmlType type = GgmlType::f32;
  std::vector<std::int64_t> shape;  ///< outermost first, as safetensors has it; at most 4
};

/// Bytes of the tensor, without padding.
std::int64_t byte_count(const GgufTensor& tensor);

/// Writes one file front to back; holds nothing but the header in memory.
class GgufWriter {
 public:
  static constexpr std::int64_t kAlignment = 32;

  /// Reserves the disk that the whole file needs and writes the header. The data of the tensors is
  /// then appended in the order given. UserError naming the file when it cannot be written.
  GgufWriter(const std::filesystem::path& path, const GgufMetadata& metadata,
             std::vector<GgufTensor> tensors);

  /// Appends the next bytes of the tensor being written; it may come in any number of parts.
  void append(std::span<const std::byte> bytes);
  /// Makes the file durable. InternalError unless all bytes were appended.
  void finish();

  /// Bytes of the whole file.
  static std::int64_t file_bytes(const GgufMetadata& metadata,
                                 const std::vector<GgufTensor>& tensors);

 private:
  std::vector<GgufTensor> tensors_;
  std::size_t current_ = 0;    // the tensor being written
  std::int64_t appended_ = 0;  // bytes of it
  OutputFile file_;
};

}  // namespace snug
