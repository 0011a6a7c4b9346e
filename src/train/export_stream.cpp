#include "train/export_stream.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/error.h"
#include "train/weights.h"

namespace snug {
namespace {

constexpr std::int64_t kElementsAtOnce = 1 << 20;

/// Which row of the stored matrix a row of the written one is.
std::int64_t stored_row(std::int64_t row, std::int64_t rows, std::int64_t heads) {
  if (heads == 0) return row;
  const std::int64_t size = rows / heads;
  const std::int64_t in_head = row % size;
  return row - in_head + in_head / 2 + in_head % 2 * (size / 2);
}

void check_range(std::span<const float> values, GgmlType type, const std::string& name) {
  const float limit = overflow_of(type);
  for (const float value : values) {
    if (!std::isfinite(value) && type == GgmlType::q8_0) {
      user_error("'{}' holds {}, for which Q8_0 has no code. Export it as bf16.", name, value);
    }
    if (std::isfinite(value) && std::fabs(value) >= limit) {
      user_error("'{}' holds {}, which is infinite as {}. Export it as bf16.", name, value,
                 name_of(type));
    }
  }
}

/// Room for one part in each of its forms.
struct Buffers {
  std::vector<std::byte> gathered;
  std::vector<float> floats;
  std::vector<std::byte> encoded;
};

void encode_part(std::span<const std::byte> part, const TensorView& view, GgmlType type,
                 Buffers& buffers, FunctionRef<void(std::span<const std::byte>)> sink) {
  if (type == ggml_type(*view.dtype) && *view.dtype != DType::f64) return sink(part);
  const auto count = static_cast<std::int64_t>(part.size()) / size_of(*view.dtype);
  buffers.floats.resize(static_cast<std::size_t>(count));
  convert_elements(part, *view.dtype, std::as_writable_bytes(std::span(buffers.floats)),
                   DType::f32);
  check_range(buffers.floats, type, view.name);
  buffers.encoded.resize(
      static_cast<std::size_t>(count / block_elements(type) * block_bytes(type)));
  encode_elements(buffers.floats, type, buffers.encoded);
  sink(buffers.encoded);
}

}  // namespace

GgmlType ggml_type(DType type) {
  switch (type) {
    case DType::f64:
    case DType::f32:
      return GgmlType::f32;
    case DType::f16:
      return GgmlType::f16;
    case DType::bf16:
      return GgmlType::bf16;
    default:
      internal_error("weights stored as {}", name_of(type));
  }
}

void stream_tensor(const TensorView& view, GgmlType type, std::int64_t heads,
                   FunctionRef<void(std::span<const std::byte>)> sink) {
  if (view.bytes.empty()) return;
  const std::int64_t rows = view.shape.empty() ? 1 : view.shape.front();
  const std::size_t row_bytes = view.bytes.size() / static_cast<std::size_t>(rows);
  check(heads == 0 || rows % (2 * heads) == 0, "{} rows in {} heads", rows, heads);
  const std::int64_t columns = static_cast<std::int64_t>(row_bytes) / size_of(*view.dtype);
  const std::int64_t rows_at_once = std::max<std::int64_t>(1, kElementsAtOnce / columns);
  Buffers buffers;
  for (std::int64_t begin = 0; begin < rows; begin += rows_at_once) {
    const std::int64_t count = std::min(rows_at_once, rows - begin);
    const auto row_of = [&](std::int64_t row) {
      return view.bytes.subspan(static_cast<std::size_t>(row) * row_bytes, row_bytes);
    };
    if (heads == 0) {
      const auto first = static_cast<std::size_t>(begin) * row_bytes;
      const auto size = static_cast<std::size_t>(count) * row_bytes;
      encode_part(view.bytes.subspan(first, size), view, type, buffers, sink);
      continue;
    }
    buffers.gathered.clear();
    for (std::int64_t row = begin; row < begin + count; ++row) {
      const auto source = row_of(stored_row(row, rows, heads));
      buffers.gathered.insert(buffers.gathered.end(), source.begin(), source.end());
    }
    encode_part(buffers.gathered, view, type, buffers, sink);
  }
}

}  // namespace snug
