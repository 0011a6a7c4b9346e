#include "backend/cpu/attention_products.h"

#include <immintrin.h>

#include <algorithm>

#include "backend/cpu/amx_tiles.h"

#define SNUG_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define SNUG_AMX __attribute__((target("amx-tile,amx-bf16")))

namespace snug {
namespace {

constexpr std::int64_t kTile = 16;  // rows, pairs and columns of a tile

struct Block {
  const std::uint32_t* a;
  std::int64_t a_row;
  const std::uint32_t* b;
  std::int64_t b_row;
  std::int64_t pairs;
  float* c;
  std::int64_t c_row;
  bool add;
};

// Tiles 0-3 sum 2 x 2 tiles of C (or fewer); 4 and 5 hold A, 6 and 7 hold B.
template <bool kTwoRows, bool kTwoColumns>
SNUG_AMX void tiles(const Block& block) {
  const std::int64_t a_row = block.a_row * 4;
  const std::int64_t b_row = block.b_row * 4;
  const std::int64_t c_row = block.c_row * 4;
  float* const low = block.c + kTile * block.c_row;
  if (block.add) {
    _tile_loadd(0, block.c, c_row);
    if constexpr (kTwoColumns) _tile_loadd(1, block.c + kTile, c_row);
    if constexpr (kTwoRows) _tile_loadd(2, low, c_row);
    if constexpr (kTwoRows && kTwoColumns) _tile_loadd(3, low + kTile, c_row);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (std::int64_t k = 0; k < block.pairs; k += kTile) {
    const std::uint32_t* a = block.a + k;
    const std::uint32_t* b = block.b + k * block.b_row;
    _tile_loadd(4, a, a_row);
    _tile_loadd(6, b, b_row);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kTwoColumns) {
      _tile_loadd(7, b + kTile, b_row);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kTwoRows) {
      _tile_loadd(5, a + kTile * block.a_row, a_row);
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (kTwoRows && kTwoColumns) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, block.c, c_row);
  if constexpr (kTwoColumns) _tile_stored(1, block.c + kTile, c_row);
  if constexpr (kTwoRows) _tile_stored(2, low, c_row);
  if constexpr (kTwoRows && kTwoColumns) _tile_stored(3, low + kTile, c_row);
}

void multiply_amx(const std::uint32_t* a, std::int64_t a_row, std::int64_t rows,
                  const std::uint32_t* b, std::int64_t b_row, std::int64_t pairs,
                  std::int64_t columns, float* c, std::int64_t c_row, bool add) {
  for (std::int64_t column = 0; column < columns; column += 2 * kTile) {
    const bool two_columns = column + kTile < columns;
    for (std::int64_t row = 0; row < rows; row += 2 * kTile) {
      const Block block{a + row * a_row,          a_row, b + column, b_row, pairs,
                        c + row * c_row + column, c_row, add};
      if (row + kTile < rows) {
        two_columns ? tiles<true, true>(block) : tiles<true, false>(block);
      } else {
        two_columns ? tiles<false, true>(block) : tiles<false, false>(block);
      }
    }
  }
}

// 8 rows of kVectors vectors of C.
template <int kVectors>
SNUG_BF16 void dot_block(const Block& block) {
  constexpr int kRows = 8;
  __m512 sum[kRows][kVectors];
#pragma GCC unroll 8
  for (std::int64_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
    for (std::int64_t v = 0; v < kVectors; ++v) {
      sum[r][v] =
          block.add ? _mm512_load_ps(block.c + r * block.c_row + v * 16) : _mm512_setzero_ps();
    }
  }
  const std::uint32_t* a = block.a;
  const std::uint32_t* b = block.b;
  for (std::int64_t k = 0; k < block.pairs; ++k, ++a, b += block.b_row) {
    __m512i right[kVectors];
#pragma GCC unroll 3
    for (std::int64_t v = 0; v < kVectors; ++v) right[v] = _mm512_load_si512(b + v * 16);
#pragma GCC unroll 8
    for (std::int64_t r = 0; r < kRows; ++r) {
      const __m512i left = _mm512_set1_epi32(static_cast<int>(a[r * block.a_row]));
#pragma GCC unroll 3
      for (std::int64_t v = 0; v < kVectors; ++v) {
        sum[r][v] = _mm512_dpbf16_ps(sum[r][v], reinterpret_cast<__m512bh>(left),
                                     reinterpret_cast<__m512bh>(right[v]));
      }
    }
  }
#pragma GCC unroll 8
  for (std::int64_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
    for (std::int64_t v = 0; v < kVectors; ++v) {
      _mm512_store_ps(block.c + r * block.c_row + v * 16, sum[r][v]);
    }
  }
}

void multiply_dot(const std::uint32_t* a, std::int64_t a_row, std::int64_t rows,
                  const std::uint32_t* b, std::int64_t b_row, std::int64_t pairs,
                  std::int64_t columns, float* c, std::int64_t c_row, bool add) {
  for (std::int64_t column = 0; column < columns;) {
    const std::int64_t left = (columns - column) / 16;
    const std::int64_t vectors = left == 4 ? 2 : std::min<std::int64_t>(3, left);
    for (std::int64_t row = 0; row < rows; row += 8) {
      const Block block{a + row * a_row,          a_row, b + column, b_row, pairs,
                        c + row * c_row + column, c_row, add};
      if (vectors == 3) {
        dot_block<3>(block);
      } else if (vectors == 2) {
        dot_block<2>(block);
      } else {
        dot_block<1>(block);
      }
    }
    column += 16 * vectors;
  }
}

void nothing() {}

constexpr PairProducts kAmx{multiply_amx, begin_amx_tiles, end_amx_tiles};
constexpr PairProducts kDot{multiply_dot, nothing, nothing};

}  // namespace

const PairProducts* pair_products(Isa isa) {
  if (isa == Isa::amx) return &kAmx;
  return isa == Isa::avx512_bf16 ? &kDot : nullptr;
}

}  // namespace snug
