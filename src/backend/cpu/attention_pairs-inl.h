// Packing of attention's tiles into pairs of bf16, for PairProducts. Packed pairs are handled as
// vectors of f32 whose lanes are only moved. Included once per Highway target, so no #pragma once.

#if defined(SNUG_BACKEND_CPU_ATTENTION_PAIRS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SNUG_BACKEND_CPU_ATTENTION_PAIRS_INL_H_
#undef SNUG_BACKEND_CPU_ATTENTION_PAIRS_INL_H_
#else
#define SNUG_BACKEND_CPU_ATTENTION_PAIRS_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "backend/cpu/attention-inl.h"
#include "backend/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {

/// Query rows in a panel: what two tiles of AMX are wide.
constexpr int64_t kPairPanel = 32;
/// Keys whose pairs fill a tile.
constexpr int64_t kPairKeys = 32;

/// to[0, pairs) = from[0, count), zero after it.
HWY_INLINE void copy_pairs(const BFloat16* from, int64_t count, uint32_t* to, int64_t pairs) {
  const auto bytes = static_cast<size_t>(count) * sizeof(BFloat16);
  auto* start = reinterpret_cast<std::byte*>(to);
  if (count > 0) std::memcpy(start, from, bytes);
  std::memset(start + bytes, 0, static_cast<size_t>(pairs) * 4 - bytes);
}

/// Pairs of `first` and `second` along the rows: to[i] = {first[i], second[i]} for i < count, zero
/// up to `padded`; a null row is zero.
HWY_INLINE void interleave_rows(const BFloat16* first, const BFloat16* second, int64_t count,
                                uint32_t* to, int64_t padded) {
  const U32 du;
  for (int64_t i = 0; i < padded; i += lanes()) {
    const int64_t some = std::clamp<int64_t>(count - i, 0, lanes());
    HWY_ALIGN uint16_t rows[2][HWY_MAX_BYTES / 4] = {};
    const auto words = [&](const BFloat16* row, uint16_t* buffer) HWY_ATTR {
      if (row == nullptr || some == 0) return hn::Zero(U16());
      if (some == lanes()) return hn::LoadU(U16(), reinterpret_cast<const uint16_t*>(row + i));
      std::memcpy(buffer, row + i, static_cast<size_t>(some) * sizeof(uint16_t));
      return hn::Load(U16(), buffer);
    };
    const auto low = hn::PromoteTo(du, words(first, rows[0]));
    const auto high = hn::PromoteTo(du, words(second, rows[1]));
    hn::Store(hn::Or(low, hn::ShiftLeft<16>(high)), du, to + i);
  }
}

/// transpose() of pairs.
HWY_INLINE void transpose_pairs(const uint32_t* from, int64_t from_row, int64_t rows,
                                int64_t columns, uint32_t* to, int64_t to_row) {
  transpose(reinterpret_cast<const float*>(from), from_row, rows, columns,
            reinterpret_cast<float*>(to), to_row);
}

/// The values' bf16, ties away from zero, in the low halves.
HWY_INLINE hn::Vec<U32> narrow_words(Vec value) {
  const U32 du;
  return hn::ShiftRight<16>(hn::Add(hn::BitCast(du, value), hn::Set(du, 0x8000)));
}

/// Where row r of a tile's matrix begins, or nullptr behind the last row.
template <class Row>
HWY_INLINE const BFloat16* row_or_null(const Row& row, int64_t r, int64_t rows) {
  return r < rows ? row(r) : nullptr;
}

/// A key or value tile as rows of pairs along the head: to [kKeyTile, pairs], rows beyond count
/// zero.
HWY_INLINE void load_rows_as_pairs(const BFloat16* data, int64_t stride, int64_t count, int64_t dim,
                                   uint32_t* to, int64_t pairs) {
  for (int64_t j = 0; j < kKeyTile; ++j) {
    copy_pairs(data + std::min(j, count - 1) * stride, j < count ? dim : 0, to + j * pairs, pairs);
  }
}

/// The same tile, pairs along the keys: to [padded_dim, kKeyTile / 2]; staging [kKeyTile / 2,
/// padded_dim].
HWY_INLINE void load_columns_as_pairs(const BFloat16* data, int64_t stride, int64_t count,
                                      int64_t dim, uint32_t* staging, uint32_t* to,
                                      int64_t padded_dim) {
  const auto row = [&](int64_t j) { return data + j * stride; };
  for (int64_t j = 0; j < kKeyTile; j += 2) {
    interleave_rows(row_or_null(row, j, count), row_or_null(row, j + 1, count), dim,
                    staging + j / 2 * padded_dim, padded_dim);
  }
  transpose_pairs(staging, padded_dim, kKeyTile / 2, padded_dim, to, kKeyTile / 2);
}

}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#endif  // include guard
