#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "core/error.h"
#include "io/safetensors.h"

namespace snug {
namespace {

/// The format's names, in the order in which its library writes the types.
constexpr auto kTypeOrder = std::to_array<std::pair<DType, std::string_view>>({
    {DType::i64, "I64"},
    {DType::f64, "F64"},
    {DType::f32, "F32"},
    {DType::i32, "I32"},
    {DType::bf16, "BF16"},
    {DType::f16, "F16"},
    {DType::i8, "I8"},
    {DType::u8, "U8"},
});

std::size_t type_rank(DType dtype) {
  for (std::size_t i = 0; i < kTypeOrder.size(); ++i) {
    if (kTypeOrder[i].first == dtype) return i;
  }
  internal_error("dtype {} has no safetensors name", name_of(dtype));
}

/// The length and the JSON, padded with spaces to a multiple of 8 bytes. `tensors` in file order.
std::string header_of(const std::vector<TensorSpec>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  const auto quoted = [](std::string_view text) { return nlohmann::json(text).dump(); };
  std::string text = "{";
  if (!metadata.empty()) text += "\"__metadata__\":" + nlohmann::json(metadata).dump();
  std::set<std::string_view> names;
  std::int64_t position = 0;
  for (const TensorSpec& tensor : tensors) {
    check(names.insert(tensor.name).second, "tensor {} occurs twice", tensor.name);
    const std::int64_t end = position + byte_count(tensor);
    text += fmt::format(R"({}{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                        text.size() > 1 ? "," : "", quoted(tensor.name),
                        kTypeOrder[type_rank(tensor.dtype)].second, fmt::join(tensor.shape, ","),
                        position, end);
    position = end;
  }
  text += '}';
  text.append((8 - text.size() % 8) % 8, ' ');
  std::string header;
  for (std::size_t i = 0; i < 8; ++i) {
    header.push_back(static_cast<char>((text.size() >> (8 * i)) & 0xffU));
  }
  return header + text;
}

std::int64_t data_bytes_of(const std::vector<TensorSpec>& tensors) {
  std::int64_t total = 0;
  for (const TensorSpec& tensor : tensors) {
    check(!__builtin_add_overflow(total, byte_count(tensor), &total), "tensors beyond 2^63 bytes");
  }
  return total;
}

}  // namespace

std::int64_t byte_count(const TensorSpec& tensor) {
  std::int64_t bytes = size_of(tensor.dtype);
  for (const std::int64_t size : tensor.shape) {
    check(size >= 0 && !__builtin_mul_overflow(bytes, size, &bytes),
          "tensor {} has no size in bytes", tensor.name);
  }
  return bytes;
}

std::vector<TensorSpec> in_file_order(std::vector<TensorSpec> tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorSpec& a, const TensorSpec& b) {
    return std::tuple(type_rank(a.dtype), std::string_view(a.name)) <
           std::tuple(type_rank(b.dtype), std::string_view(b.name));
  });
  return tensors;
}

std::int64_t SafetensorsWriter::file_bytes(const std::vector<TensorSpec>& tensors,
                                           const std::map<std::string, std::string>& metadata) {
  const auto header = header_of(in_file_order(tensors), metadata);
  return static_cast<std::int64_t>(header.size()) + data_bytes_of(tensors);
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     std::vector<TensorSpec> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : order_(in_file_order(std::move(tensors))),
      data_bytes_(data_bytes_of(order_)),
      file_(path, file_bytes(order_, metadata)) {
  const std::string header = header_of(order_, metadata);
  file_.write(std::as_bytes(std::span(header.data(), header.size())));
}

void SafetensorsWriter::append(std::span<const std::byte> bytes) {
  appended_ += static_cast<std::int64_t>(bytes.size());
  check(appended_ <= data_bytes_, "{} bytes appended of {}", appended_, data_bytes_);
  file_.write(bytes);
}

FileChecksums SafetensorsWriter::finish() {
  check(appended_ == data_bytes_, "{} bytes appended of {}", appended_, data_bytes_);
  return file_.finish();
}

}  // namespace snug
