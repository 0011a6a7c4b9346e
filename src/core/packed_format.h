#pragma once
// Packed storage of weight matrices: what the bytes mean, as bitsandbytes defines it.
//
// nf4, fp4: u8 codes of 4 bits of the flattened matrix, the first element in the high nibble, an
// odd end padded; one scale, the largest magnitude, for each kPackedBlock elements, which may cross
// rows. Element = round(level[code] * scale), the product in fp32, rounded once.
// Double quantised, the scales are u8 codes of the signed dynamic map, with one fp32 nested scale
// for each kNestedBlock of them and one fp32 offset: scale = map[code] * nested + offset.
// int8: i8 codes of the flattened matrix and one fp32 scale a row: element = round(code * scale /
// 127), the division a product with the constant fp32 1/127.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "core/error.h"

namespace snug {

enum class PackedFormat : std::uint8_t { nf4, fp4, int8 };

std::string_view name_of(PackedFormat format);
std::optional<PackedFormat> packed_format_from_name(std::string_view name);

inline constexpr std::int64_t kPackedBlock = 64;
inline constexpr std::int64_t kNestedBlock = 256;
inline constexpr float kInt8Step = 7.874015718698502e-3F;  // 1/127

constexpr bool is_four_bit(PackedFormat format) { return format != PackedFormat::int8; }

/// Bytes of the codes of `elements` elements.
constexpr std::int64_t packed_code_bytes(PackedFormat format, std::int64_t elements) {
  return is_four_bit(format) ? elements / 2 + elements % 2 : elements;
}
/// Scales of a matrix.
constexpr std::int64_t packed_scales(PackedFormat format, std::int64_t rows, std::int64_t columns) {
  if (!is_four_bit(format)) return rows;
  return (rows * columns + kPackedBlock - 1) / kPackedBlock;
}
constexpr std::int64_t nested_scales(std::int64_t scales) {
  return (scales + kNestedBlock - 1) / kNestedBlock;
}

/// The 16 values of a 4-bit format, by code.
std::span<const float, 16> levels_of(PackedFormat format);

/// A packed matrix in memory. `scales` are fp32, or codes when `nested` is given.
struct PackedMatrix {
  PackedFormat format = PackedFormat::nf4;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  const std::uint8_t* codes = nullptr;
  const void* scales = nullptr;
  const float* nested = nullptr;  ///< nullptr: not double quantised
  float offset = 0;

  /// The scale of block (row for int8) `i`.
  float scale(std::int64_t i) const;
  /// Element (row, column) in fp32, before it is rounded to a type.
  float element(std::int64_t row, std::int64_t column) const;
};

}  // namespace snug
