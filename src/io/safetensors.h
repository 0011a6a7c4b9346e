#pragma once
// The safetensors container (https://github.com/huggingface/safetensors#format):
// u64 little-endian N, N bytes of JSON, data. Offsets in the JSON count from the data's start.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "io/file.h"

namespace snug {

/// A tensor in a mapped file. The bytes stay valid while the file's object lives.
struct TensorView {
  std::string name;
  std::string type_name;       ///< as the file spells it: BF16
  std::optional<DType> dtype;  ///< none for types that snug cannot compute with (BOOL, F8_E4M3, …)
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;  ///< row-major, little-endian; not aligned beyond one byte
};

/// One file, opened and checked: the header against the file's size; every tensor's dtype, shape
/// and range; no overlap, no gap. Movable.
class SafetensorsFile {
 public:
  /// UserError naming the file, and the tensor where there is one, for everything that is wrong.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  /// In order of position.
  const std::vector<TensorView>& tensors() const { return tensors_; }
  const TensorView* find(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// Gives the tensor's pages back, so that loading many tensors keeps few of them in memory.
  void drop_pages(const TensorView& view) const { file_.drop_pages(view.bytes); }

 private:
  std::filesystem::path path_;
  MappedFile file_;
  std::vector<TensorView> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
  std::map<std::string, std::string> metadata_;
};

/// A tensor to be written.
struct TensorSpec {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  bool operator==(const TensorSpec&) const = default;
};

/// Bytes of the tensor.
std::int64_t byte_count(const TensorSpec& tensor);

/// The format's order: element types as the safetensors library ranks them (wide ones first), then
/// names.
std::vector<TensorSpec> in_file_order(std::vector<TensorSpec> tensors);

/// Writes one file front to back; holds nothing but the header in memory.
class SafetensorsWriter {
 public:
  /// Writes the header. The data of the tensors is then appended in `order()`.
  SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorSpec> tensors,
                    const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

  const std::vector<TensorSpec>& order() const { return order_; }
  /// Appends the next bytes; a tensor may come in any number of parts.
  void append(std::span<const std::byte> bytes);
  /// Makes the file durable. InternalError unless all bytes were appended.
  FileChecksums finish();

  /// Bytes that the file of these tensors has.
  static std::int64_t file_bytes(const std::vector<TensorSpec>& tensors,
                                 const std::map<std::string, std::string>& metadata = {
                                     {"format", "pt"}});

 private:
  std::vector<TensorSpec> order_;
  std::int64_t data_bytes_ = 0;
  std::int64_t appended_ = 0;
  OutputFile file_;
};

}  // namespace snug
