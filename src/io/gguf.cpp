#include "io/gguf.h"

#include <algorithm>
#include <array>
#include <bit>

#include "core/error.h"

namespace snug {
namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr std::uint32_t kVersion = 3;
constexpr std::size_t kMostDimensions = 4;

/// Numbers of gguf_metadata_value_type.
enum ValueType : std::uint32_t {
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
};

template <class T>
void put(std::string& bytes, T value) {
  static_assert(std::endian::native == std::endian::little);
  const auto raw = std::bit_cast<std::array<char, sizeof(T)>>(value);
  bytes.append(raw.data(), raw.size());
}

void put_text(std::string& bytes, std::string_view text) {
  put(bytes, static_cast<std::uint64_t>(text.size()));
  bytes += text;
}

std::int64_t aligned(std::int64_t bytes) {
  constexpr std::int64_t kStep = GgufWriter::kAlignment;
  check(bytes <= INT64_MAX - kStep, "a file beyond 2^63 bytes");
  return (bytes + kStep - 1) / kStep * kStep;
}

/// All before the data, padded.
std::string header_of(const GgufMetadata& metadata, const std::vector<GgufTensor>& tensors) {
  std::string header(kMagic);
  put(header, kVersion);
  put(header, static_cast<std::int64_t>(tensors.size()));
  put(header, metadata.count());
  header += metadata.bytes();
  std::set<std::string_view> names;
  std::int64_t offset = 0;
  for (const GgufTensor& tensor : tensors) {
    check(names.insert(tensor.name).second, "tensor {} occurs twice", tensor.name);
    check(tensor.shape.size() <= kMostDimensions, "tensor {} has {} dimensions", tensor.name,
          tensor.shape.size());
    put_text(header, tensor.name);
    put(header, static_cast<std::uint32_t>(tensor.shape.size()));
    std::for_each(tensor.shape.rbegin(), tensor.shape.rend(),
                  [&](std::int64_t size) { put(header, size); });
    put(header, static_cast<std::uint32_t>(tensor.type));
    put(header, offset);
    check(!__builtin_add_overflow(offset, aligned(byte_count(tensor)), &offset),
          "tensors beyond 2^63 bytes");
  }
  header.resize(static_cast<std::size_t>(aligned(static_cast<std::int64_t>(header.size()))));
  return header;
}

}  // namespace

void GgufMetadata::begin(std::string_view key) {
  check(keys_.emplace(key).second, "metadata {} occurs twice", key);
  put_text(bytes_, key);
}

void GgufMetadata::begin_array(std::string_view key, std::uint32_t type, std::size_t count) {
  begin(key);
  put(bytes_, kArray);
  put(bytes_, type);
  put(bytes_, static_cast<std::uint64_t>(count));
}

void GgufMetadata::add(std::string_view key, std::uint32_t value) {
  begin(key);
  put(bytes_, kUint32);
  put(bytes_, value);
}

void GgufMetadata::add(std::string_view key, float value) {
  begin(key);
  put(bytes_, kFloat32);
  put(bytes_, value);
}

void GgufMetadata::add(std::string_view key, bool value) {
  begin(key);
  put(bytes_, kBool);
  put(bytes_, static_cast<std::uint8_t>(value ? 1 : 0));
}

void GgufMetadata::add(std::string_view key, std::string_view value) {
  begin(key);
  put(bytes_, kString);
  put_text(bytes_, value);
}

void GgufMetadata::add(std::string_view key, std::span<const std::string> values) {
  begin_array(key, kString, values.size());
  for (const std::string& value : values) put_text(bytes_, value);
}

void GgufMetadata::add(std::string_view key, std::span<const std::int32_t> values) {
  begin_array(key, kInt32, values.size());
  for (const std::int32_t value : values) put(bytes_, value);
}

void GgufMetadata::add(std::string_view key, std::span<const float> values) {
  begin_array(key, kFloat32, values.size());
  for (const float value : values) put(bytes_, value);
}

std::int64_t byte_count(const GgufTensor& tensor) {
  const std::int64_t block = block_elements(tensor.type);
  check(!tensor.shape.empty() && tensor.shape.back() % block == 0,
        "tensor {} has no rows of whole {} blocks", tensor.name, name_of(tensor.type));
  std::int64_t bytes = block_bytes(tensor.type);
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    const std::int64_t size = tensor.shape[i] / (i + 1 == tensor.shape.size() ? block : 1);
    check(size >= 0 && !__builtin_mul_overflow(bytes, size, &bytes),
          "tensor {} has no size in bytes", tensor.name);
  }
  return bytes;
}

std::int64_t GgufWriter::file_bytes(const GgufMetadata& metadata,
                                    const std::vector<GgufTensor>& tensors) {
  auto bytes = static_cast<std::int64_t>(header_of(metadata, tensors).size());
  for (const GgufTensor& tensor : tensors) bytes += aligned(byte_count(tensor));
  return bytes;
}

GgufWriter::GgufWriter(const std::filesystem::path& path, const GgufMetadata& metadata,
                       std::vector<GgufTensor> tensors)
    : tensors_(std::move(tensors)), file_(path, file_bytes(metadata, tensors_)) {
  const std::string header = header_of(metadata, tensors_);
  file_.write(std::as_bytes(std::span(header.data(), header.size())));
}

void GgufWriter::append(std::span<const std::byte> bytes) {
  check(current_ < tensors_.size(), "bytes behind the last tensor");
  const std::int64_t size = byte_count(tensors_[current_]);
  appended_ += static_cast<std::int64_t>(bytes.size());
  check(appended_ <= size, "tensor {}: {} bytes appended of {}", tensors_[current_].name, appended_,
        size);
  file_.write(bytes);
  if (appended_ < size) return;
  const std::array<std::byte, kAlignment> zeros{};
  file_.write(std::span(zeros).first(static_cast<std::size_t>(aligned(size) - size)));
  ++current_;
  appended_ = 0;
}

void GgufWriter::finish() {
  check(current_ == tensors_.size(), "tensor {}: {} bytes appended", tensors_[current_].name,
        appended_);
  file_.finish();
}

}  // namespace snug
