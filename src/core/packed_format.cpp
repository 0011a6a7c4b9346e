#include "core/packed_format.h"

#include <algorithm>

#include "core/dynamic_map.h"

namespace snug {
namespace {

// Quantiles of the normal distribution (Dettmers et al., arXiv 2305.14314).
constexpr std::array<float, 16> kNf4 = {-1.0F,
                                        -0.6961928009986877F,
                                        -0.5250730514526367F,
                                        -0.39491748809814453F,
                                        -0.28444138169288635F,
                                        -0.18477343022823334F,
                                        -0.09105003625154495F,
                                        0.0F,
                                        0.07958029955625534F,
                                        0.16093020141124725F,
                                        0.24611230194568634F,
                                        0.33791524171829224F,
                                        0.44070982933044434F,
                                        0.5626170039176941F,
                                        0.7229568362236023F,
                                        1.0F};
constexpr std::array<float, 16> kFp4 = {
    0.0F,  0.0052083335F,  0.6666667F,  1.0F,  0.33333334F,  0.5F,  0.16666667F,  0.25F,
    -0.0F, -0.0052083335F, -0.6666667F, -1.0F, -0.33333334F, -0.5F, -0.16666667F, -0.25F};

constexpr std::array<std::string_view, 3> kNames = {"nf4", "fp4", "int8"};

}  // namespace

std::string_view name_of(PackedFormat format) { return kNames[static_cast<std::size_t>(format)]; }

std::optional<PackedFormat> packed_format_from_name(std::string_view name) {
  const auto found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<PackedFormat>(found - kNames.begin());
}

std::span<const float, 16> levels_of(PackedFormat format) {
  check(is_four_bit(format), "{} has no levels", name_of(format));
  return format == PackedFormat::nf4 ? kNf4 : kFp4;
}

float PackedMatrix::scale(std::int64_t i) const {
  if (nested == nullptr) return static_cast<const float*>(scales)[i];
  const float product =
      signed_dynamic_map()[static_cast<const std::uint8_t*>(scales)[i]] * nested[i / kNestedBlock];
  return product + offset;
}

float PackedMatrix::element(std::int64_t row, std::int64_t column) const {
  const std::int64_t i = row * columns + column;
  if (format == PackedFormat::int8) {
    const auto code = static_cast<float>(static_cast<std::int8_t>(codes[i]));
    return code * scale(row) * kInt8Step;
  }
  const unsigned pair = codes[i / 2];
  return levels_of(format)[i % 2 == 0 ? pair >> 4U : pair & 15U] * scale(i / kPackedBlock);
}

}  // namespace snug
