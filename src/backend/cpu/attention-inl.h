// The tile arithmetic of attention: a register-blocked product on fp32 scratch, packing, masks.
// Rows of a query tile (token, head of the group) lie in the vector lanes, so that the softmax of a
// row needs no sum across lanes and no row's bits depend on its neighbours.
// Included once per Highway target, so no #pragma once.

#if defined(SNUG_BACKEND_CPU_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SNUG_BACKEND_CPU_ATTENTION_INL_H_
#undef SNUG_BACKEND_CPU_ATTENTION_INL_H_
#else
#define SNUG_BACKEND_CPU_ATTENTION_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

#include "backend/cpu/attention_tiles.h"
#include "backend/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {

// The register block: kBlockRows x kBlockVectors accumulators, one row of vectors of B, one of A.
#if HWY_TARGET == HWY_AVX2
constexpr int kBlockRows = 4;  // of 16 registers: 12 accumulators
constexpr int kBlockVectors = 3;
#else
constexpr int kBlockRows = 8;  // of 32 registers: 24 accumulators
constexpr int kBlockVectors = 3;
#endif

/// What an element of the product is added to: nothing, C, or C times its column's factor.
enum class Start : uint8_t { zero, add, scaled };

/// A[m, k] at data[m * row + k * step].
struct Factor {
  const float* data;
  int64_t row;
  int64_t step;
};

template <int kVectors, Start kStart>
HWY_INLINE void multiply_block(Factor a, const float* b, int64_t b_step, int64_t depth, float* c,
                               int64_t c_row, const float* factors) {
  const F32 d;
  const int64_t n = lanes();
  Vec sum[kBlockRows][kVectors];
  HWY_UNROLL(8)
  for (int r = 0; r < kBlockRows; ++r) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) {
      if constexpr (kStart == Start::zero) {
        sum[r][v] = hn::Zero(d);
      } else if constexpr (kStart == Start::add) {
        sum[r][v] = hn::Load(d, c + r * c_row + v * n);
      } else {
        sum[r][v] = hn::Mul(hn::Load(d, c + r * c_row + v * n), hn::Load(d, factors + v * n));
      }
    }
  }
  const float* from = a.data;
  for (int64_t k = 0; k < depth; ++k) {
    Vec right[kVectors];
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) right[v] = hn::Load(d, b + v * n);
    HWY_UNROLL(8)
    for (int r = 0; r < kBlockRows; ++r) {
      const Vec left = hn::Set(d, from[r * a.row]);
      HWY_UNROLL(4)
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(left, right[v], sum[r][v]);
    }
    b += b_step;
    from += a.step;
  }
  HWY_UNROLL(8)
  for (int r = 0; r < kBlockRows; ++r) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) hn::Store(sum[r][v], d, c + r * c_row + v * n);
  }
}

/// C[rows, vectors] = start + A[rows, depth] B[depth, vectors]; rows is rounded up to a multiple of
/// kBlockRows (A and C have that many), vectors <= kBlockVectors. Sums run over depth in order.
template <Start kStart>
HWY_NOINLINE void multiply_panel(Factor a, int64_t rows, const float* b, int64_t b_step,
                                 int64_t depth, int vectors, float* c, int64_t c_row,
                                 const float* factors = nullptr) {
  for (int64_t r = 0; r < rows; r += kBlockRows) {
    const Factor block{a.data + r * a.row, a.row, a.step};
    float* to = c + r * c_row;
    switch (vectors) {
      case 1:
        multiply_block<1, kStart>(block, b, b_step, depth, to, c_row, factors);
        break;
      case 2:
        multiply_block<2, kStart>(block, b, b_step, depth, to, c_row, factors);
        break;
      default:
        multiply_block<kBlockVectors, kStart>(block, b, b_step, depth, to, c_row, factors);
        break;
    }
  }
}

/// to[0, padded) = from[0, count) as f32, zero after `count`; padded is a multiple of 16.
template <class T>
HWY_INLINE void widen_row(const T* from, int64_t count, float* to, int64_t padded) {
  const F32 d;
  const int64_t n = lanes();
  int64_t i = 0;
  for (; i + n <= count; i += n) hn::Store(load(from + i), d, to + i);
  if (i < count) {
    hn::Store(load_some(from + i, count - i), d, to + i);
    i += n;
  }
  for (; i < padded; i += n) hn::Store(hn::Zero(d), d, to + i);
}

/// row[0, padded) *= factor; padded is a multiple of 16.
HWY_INLINE void scale_row(float* row, int64_t padded, float factor) {
  const F32 d;
  const Vec scale = hn::Set(d, factor);
  for (int64_t i = 0; i < padded; i += lanes()) {
    hn::Store(hn::Mul(hn::Load(d, row + i), scale), d, row + i);
  }
}

/// to[0, count) = from[0, count) * factor, rounded to T.
template <class T>
HWY_INLINE void narrow_row(const float* from, int64_t count, float factor, T* to) {
  const F32 d;
  const int64_t n = lanes();
  const Vec scale = hn::Set(d, factor);
  int64_t i = 0;
  for (; i + n <= count; i += n) store(hn::Mul(hn::Load(d, from + i), scale), to + i);
  if (i < count) store_some(hn::Mul(hn::Load(d, from + i), scale), to + i, count - i);
}

/// Transposes 4 x 4 blocks within each 128 bits: out[i] holds column i of every block.
HWY_INLINE void transpose_blocks(Vec r0, Vec r1, Vec r2, Vec r3, Vec* out) {
  const F32 d;
  const Vec low02 = hn::InterleaveLower(d, r0, r2);  // 0a 2a 0b 2b
  const Vec low13 = hn::InterleaveLower(d, r1, r3);
  const Vec high02 = hn::InterleaveUpper(d, r0, r2);
  const Vec high13 = hn::InterleaveUpper(d, r1, r3);
  out[0] = hn::InterleaveLower(d, low02, low13);
  out[1] = hn::InterleaveUpper(d, low02, low13);
  out[2] = hn::InterleaveLower(d, high02, high13);
  out[3] = hn::InterleaveUpper(d, high02, high13);
}

/// to[c, r] = from[r, c] for lanes() x lanes() elements.
HWY_INLINE void transpose_square(const float* from, int64_t from_row, float* to, int64_t to_row) {
  const F32 d;
  constexpr int64_t kGroups = static_cast<int64_t>(hn::MaxLanes(F32())) / 4;
  Vec part[kGroups][4];
  HWY_UNROLL(4)
  for (int64_t g = 0; g < kGroups; ++g) {
    const float* row = from + 4 * g * from_row;
    transpose_blocks(hn::Load(d, row), hn::Load(d, row + from_row), hn::Load(d, row + 2 * from_row),
                     hn::Load(d, row + 3 * from_row), part[g]);
  }
  HWY_UNROLL(4)
  for (int64_t i = 0; i < 4; ++i) {
#if HWY_TARGET == HWY_AVX2
    hn::Store(hn::ConcatLowerLower(d, part[1][i], part[0][i]), d, to + i * to_row);
    hn::Store(hn::ConcatUpperUpper(d, part[1][i], part[0][i]), d, to + (4 + i) * to_row);
#else
    const auto low01 = _mm512_shuffle_f32x4(part[0][i].raw, part[1][i].raw, 0x44);
    const auto low23 = _mm512_shuffle_f32x4(part[2][i].raw, part[3][i].raw, 0x44);
    const auto high01 = _mm512_shuffle_f32x4(part[0][i].raw, part[1][i].raw, 0xee);
    const auto high23 = _mm512_shuffle_f32x4(part[2][i].raw, part[3][i].raw, 0xee);
    _mm512_store_ps(to + i * to_row, _mm512_shuffle_f32x4(low01, low23, 0x88));
    _mm512_store_ps(to + (4 + i) * to_row, _mm512_shuffle_f32x4(low01, low23, 0xdd));
    _mm512_store_ps(to + (8 + i) * to_row, _mm512_shuffle_f32x4(high01, high23, 0x88));
    _mm512_store_ps(to + (12 + i) * to_row, _mm512_shuffle_f32x4(high01, high23, 0xdd));
#endif
  }
}

/// to[c, r] = from[r, c]; rows and columns are multiples of 16, as are the distances of rows.
HWY_INLINE void transpose(const float* from, int64_t from_row, int64_t rows, int64_t columns,
                          float* to, int64_t to_row) {
  for (int64_t c = 0; c < columns; c += lanes()) {
    for (int64_t r = 0; r < rows; r += lanes()) {
      transpose_square(from + r * from_row + c, from_row, to + c * to_row + r, to_row);
    }
  }
}

constexpr float kLog2E = 1.44269504F;
constexpr float kLn2 = 0.69314718F;

/// Rows [0, count) of a key or value tile, then zero rows up to a multiple of kBlockRows.
template <class T>
void load_tile(TokenInput from, int64_t key, int64_t count, int64_t column, int64_t dim, float* to,
               int64_t padded_dim) {
  const auto* data = static_cast<const T*>(from.data) + key * from.stride + column;
  for (int64_t j = 0; j < count; ++j) {
    widen_row(data + j * from.stride, dim, to + j * padded_dim, padded_dim);
  }
  const int64_t padded = (count + kBlockRows - 1) / kBlockRows * kBlockRows;
  std::fill(to + count * padded_dim, to + padded * padded_dim, 0.0F);
}

/// The queries of a tile and the keys they may see, all as indices into the key rows.
struct TileView {
  int64_t first_query = 0;  ///< key index of the tile's first query: the last key that it sees
  int64_t queries = 0;
  int64_t group = 1;
  int64_t first_key = 0;  ///< of the document
  int64_t window = 0;     ///< 0: none

  int64_t rows() const { return queries * group; }
  int64_t end_key() const { return first_query + queries; }
  /// First key tile (as an offset in keys from first_key) that some query sees.
  int64_t first_tile() const {
    if (window == 0 || first_query - window + 1 <= first_key) return 0;
    return (first_query - window + 1 - first_key) / kKeyTile * kKeyTile;
  }
};

/// The part of a key tile that the rows of one panel see.
struct Visible {
  int64_t begin = 0;  ///< in keys from the tile's start, a multiple of kBlockRows
  int64_t end = 0;
  bool all = true;  ///< every row sees every key of [begin, end)
};

/// `row`, `row_count`: the panel; `key`, `key_count`: the tile.
HWY_INLINE Visible visible_keys(const TileView& view, int64_t row, int64_t row_count, int64_t key,
                                int64_t key_count) {
  const int64_t last_row = std::min(row + row_count, view.rows()) - 1;
  const int64_t oldest = view.first_query + row / view.group;
  const int64_t newest = view.first_query + last_row / view.group;
  Visible visible;
  visible.end = std::min(key_count, newest + 1 - key);
  visible.all = key + visible.end - 1 <= oldest;
  if (view.window > 0) {
    const int64_t begin = std::max<int64_t>(0, oldest - view.window + 1 - key);
    visible.begin = begin / kBlockRows * kBlockRows;
    visible.all = visible.all && key + visible.begin > newest - view.window;
  }
  return visible;
}

/// Which of a vector of rows see key `key`; `queries` holds each row's own key index.
HWY_INLINE hn::Mask<F32> sees(hn::Vec<I32> queries, int64_t key, int64_t window) {
  const I32 di;
  const auto at = hn::Set(di, static_cast<int32_t>(key));
  auto mask = hn::Gt(hn::Add(queries, hn::Set(di, 1)), at);
  if (window > 0) {
    const auto reach = hn::Set(di, static_cast<int32_t>(std::min<int64_t>(window, INT32_MAX)));
    mask = hn::And(mask, hn::Lt(hn::Sub(queries, at), reach));
  }
  return hn::RebindMask(F32(), mask);
}

}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#endif  // include guard
