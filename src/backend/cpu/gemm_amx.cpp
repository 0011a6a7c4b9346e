// bf16 panels for AMX tiles and for VDPBF16PS. Both read the same layout, AMX's own: an A tile is
// 16 rows of 32 k; a B tile is 16 pairs of k, each of 16 columns x 2 k. A panel's step is two
// tiles.

#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 takes the undefined operand inside its own intrinsics for a mistake (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <immintrin.h>

#include <algorithm>

#include "backend/cpu/amx_tiles.h"
#include "backend/cpu/gemm_engine.h"

#define SNUG_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define SNUG_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define SNUG_AMX __attribute__((target("amx-tile,amx-bf16")))

namespace snug {
namespace {

constexpr std::int64_t kStep = 32;    // k in a tile
constexpr std::int64_t kTile = 1024;  // bytes
constexpr std::int64_t kLine = 64;    // bytes of a tile's row
constexpr std::int64_t kAhead = 128;  // elements of a row that are asked for beforehand

// The elements of `source` from k_first on.
const std::uint16_t* elements(const GemmMatrix& source, std::int64_t k_first) {
  return static_cast<const std::uint16_t*>(source.data) +
         (source.k_contiguous ? k_first : k_first * source.stride);
}

std::uint32_t mask_of(std::int64_t count) {
  return count >= 32 ? ~0U : count <= 0 ? 0U : (1U << count) - 1U;
}

// Transposes 16 x 16 dwords.
SNUG_AVX512 inline void transpose(__m512i (&r)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

// 16 rows of 32 k from k-contiguous memory; zeros beyond `rows` and `ks`.
SNUG_AVX512 inline void load_rows(const std::uint16_t* source, std::int64_t stride,
                                  std::int64_t rows, std::int64_t ks, __m512i (&r)[16]) {
  const __mmask32 mask = mask_of(ks);
  for (int i = 0; i < 16; ++i) {
    if (i < rows) _mm_prefetch(source + i * stride + kAhead, _MM_HINT_T0);
    r[i] = i < rows ? _mm512_maskz_loadu_epi16(mask, source + i * stride) : _mm512_setzero_si512();
  }
}

SNUG_AVX512 inline void store_tile(std::byte* tile, const __m512i (&r)[16]) {
  for (int i = 0; i < 16; ++i) _mm512_store_si512(tile + i * kLine, r[i]);
}

// 16 pairs of k of 32 outer indices from [k, outer] memory, as dwords of two k: outer 0-15, 16-31.
SNUG_AVX512 inline void load_pairs(const std::uint16_t* source, std::int64_t stride,
                                   std::int64_t outers, std::int64_t ks, __m512i (&low)[16],
                                   __m512i (&high)[16]) {
  const __mmask32 mask = mask_of(outers);
  const __m512i first = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40,
                                         8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
  for (std::int64_t i = 0; i < 16; ++i) {
    const std::uint16_t* row = source + 2 * i * stride;
    const __m512i even = 2 * i < ks ? _mm512_maskz_loadu_epi16(mask, row) : _mm512_setzero_si512();
    const __m512i odd =
        2 * i + 1 < ks ? _mm512_maskz_loadu_epi16(mask, row + stride) : _mm512_setzero_si512();
    low[i] = _mm512_permutex2var_epi16(even, first, odd);
    high[i] = _mm512_permutex2var_epi16(even, second, odd);
  }
}

SNUG_AVX512 void pack_a(const GemmMatrix& source, std::int64_t first, std::int64_t count,
                        std::int64_t k_first, std::int64_t k, std::byte* panel) {
  const std::uint16_t* data = elements(source, k_first);
  for (std::int64_t k0 = 0; k0 < k; k0 += kStep, panel += 2 * kTile) {
    __m512i low[16];
    __m512i high[16];
    if (source.k_contiguous) {
      const std::uint16_t* row = data + first * source.stride + k0;
      load_rows(row, source.stride, count, k - k0, low);
      load_rows(row + 16 * source.stride, source.stride, count - 16, k - k0, high);
    } else {
      load_pairs(data + k0 * source.stride + first, source.stride, count, k - k0, low, high);
      transpose(low);
      transpose(high);
    }
    store_tile(panel, low);
    store_tile(panel + kTile, high);
  }
}

SNUG_AVX512 void pack_b(const GemmMatrix& source, std::int64_t first, std::int64_t count,
                        std::int64_t k_first, std::int64_t k, std::byte* panel) {
  const std::uint16_t* data = elements(source, k_first);
  for (std::int64_t k0 = 0; k0 < k; k0 += kStep, panel += 2 * kTile) {
    __m512i low[16];
    __m512i high[16];
    if (source.k_contiguous) {
      const std::uint16_t* row = data + first * source.stride + k0;
      load_rows(row, source.stride, count, k - k0, low);
      load_rows(row + 16 * source.stride, source.stride, count - 16, k - k0, high);
      transpose(low);
      transpose(high);
    } else {
      load_pairs(data + k0 * source.stride + first, source.stride, count, k - k0, low, high);
    }
    store_tile(panel, low);
    store_tile(panel + kTile, high);
  }
}

// Tiles 0-3 sum 2 x 2 tiles of C; 4 and 5 hold A, 6 and 7 hold B.
SNUG_AMX void micro_amx(const std::byte* a, const std::byte* b, std::int64_t steps, float* c,
                        std::int64_t c_stride, bool add) {
  const std::int64_t c_row = c_stride * static_cast<std::int64_t>(sizeof(float));
  float* const c_low = c + 16 * c_stride;
  if (add) {
    _tile_loadd(0, c, c_row);
    _tile_loadd(1, c + 16, c_row);
    _tile_loadd(2, c_low, c_row);
    _tile_loadd(3, c_low + 16, c_row);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (std::int64_t step = 0; step < steps; ++step) {
    _tile_loadd(6, b, kLine);
    _tile_loadd(4, a, kLine);
    _tile_loadd(7, b + kTile, kLine);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, a + kTile, kLine);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    a += 2 * kTile;
    b += 2 * kTile;
  }
  _tile_stored(0, c, c_row);
  _tile_stored(1, c + 16, c_row);
  _tile_stored(2, c_low, c_row);
  _tile_stored(3, c_low + 16, c_row);
}

// 32 elements of a row as two vectors of 16.
struct Pair {
  __m512 low;
  __m512 high;
};

SNUG_BF16 inline Pair load(const float* from, __mmask32 mask) {
  return {_mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), from),
          _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), from + 16)};
}

SNUG_BF16 inline Pair load(const BFloat16* from, __mmask32 mask) {
  const __m512i bits = _mm512_maskz_loadu_epi16(mask, from);
  const __m512i low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(bits));
  const __m512i high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(bits, 1));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(low, 16)),
          _mm512_castsi512_ps(_mm512_slli_epi32(high, 16))};
}

SNUG_BF16 inline Pair add(const Pair& a, const Pair& b) {
  return {_mm512_add_ps(a.low, b.low), _mm512_add_ps(a.high, b.high)};
}

SNUG_BF16 inline void store(const Pair& values, float* to, __mmask32 mask) {
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>(mask), values.low);
  _mm512_mask_storeu_ps(to + 16, static_cast<__mmask16>(mask >> 16), values.high);
}

// Rounds as VCVTNE2PS2BF16 does: to nearest even, subnormal values to zero.
SNUG_BF16 inline void store(const Pair& values, BFloat16* to, __mmask32 mask) {
  const auto bits = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(values.high, values.low));
  _mm512_mask_storeu_epi16(to, mask, bits);
}

template <class Out>
SNUG_BF16 void store_columns(const GemmOutput& output, const float* values,
                             std::int64_t value_stride, std::int64_t row, std::int64_t col,
                             std::int64_t rows, __mmask32 mask) {
  Pair bias{_mm512_setzero_ps(), _mm512_setzero_ps()};
  if (output.bias != nullptr) {
    bias = output.bias_dtype == DType::bf16
               ? load(static_cast<const BFloat16*>(output.bias) + col, mask)
               : load(static_cast<const float*>(output.bias) + col, mask);
  }
  Out* to = static_cast<Out*>(output.data) + row * output.stride + col;
  for (std::int64_t r = 0; r < rows; ++r, to += output.stride, values += value_stride) {
    Pair value = add(load(values, mask), bias);
    if (output.accumulate) value = add(value, load(static_cast<const Out*>(to), mask));
    store(value, to, mask);
  }
}

void store_sums(const GemmOutput& output, const float* values, std::int64_t value_stride,
                std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t cols) {
  if (output.rounding) {
    store_block(output, values, value_stride, row, col, rows, cols);
    return;
  }
  for (std::int64_t c = 0; c < cols; c += 32) {
    const auto columns =
        output.dtype == DType::bf16 ? store_columns<BFloat16> : store_columns<float>;
    columns(output, values + c, value_stride, row, col + c, rows, mask_of(cols - c));
  }
}

}  // namespace

GemmEngine amx_engine() {
  return {.layout = amx_layout(),
          .pack_a = pack_a,
          .pack_b = pack_b,
          .micro = micro_amx,
          .begin = begin_amx_tiles,
          .end = end_amx_tiles,
          .store = store_sums};
}

}  // namespace snug
