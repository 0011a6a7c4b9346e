#pragma once
// What the attention kernels share: tiles of heads in shared memory, rows in registers, masks.
// A block has four warps; each owns 16 rows of a tile of 64.

#include <type_traits>

#include "backend/cuda/flash.h"
#include "backend/cuda/present/grid.cuh"
#include "backend/cuda/present/mma.cuh"

namespace snug::cuda {

inline constexpr int kKeyTiles = kFlashTile / 8;  ///< sum tiles over the columns of a score tile
inline constexpr float kLog2e = 1.4426950408889634F;

template <int kWidth>
struct Tile {
  static constexpr int kStride = kWidth + 8;
  static constexpr int kElements = kFlashTile * kStride;
};

/// Rows first.. of one head into shared memory; zeros beyond the tokens and the head's width.
template <int kWidth, class T>
__device__ inline void load_tile(T* tile, const HeadRows& rows, int head, int first,
                                 const FlashShape& s) {
  constexpr int kPieces = kWidth / 8;
  for (int i = threadIdx.x; i < kFlashTile * kPieces; i += kFlashThreads) {
    const int row = i / kPieces;
    const int column = i % kPieces * 8;
    uint4 bytes = make_uint4(0, 0, 0, 0);
    if (first + row < s.tokens && column < s.width) {
      const T* from = static_cast<const T*>(rows.data) +
                      static_cast<std::int64_t>(first + row) * rows.stride + head * s.width +
                      column;
      bytes = *reinterpret_cast<const uint4*>(from);
    }
    *reinterpret_cast<uint4*>(tile + row * Tile<kWidth>::kStride + column) = bytes;
  }
}

/// Columns 16 k.. of the warp's 16 rows, first row `row`, as a left factor; straight from memory.
template <class T>
__device__ inline LeftTile load_left(const HeadRows& rows, int head, int row, int k,
                                     const FlashShape& s) {
  const int lane = threadIdx.x % 32;
  LeftTile left;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int r = row + lane / 4 + i % 2 * 8;
    const int column = k * 16 + lane % 4 * 2 + i / 2 * 8;
    left.a[i] = 0;
    if (r < s.tokens && column < s.width) {
      const T* from = static_cast<const T*>(rows.data) +
                      static_cast<std::int64_t>(r) * rows.stride + head * s.width + column;
      left.a[i] = *reinterpret_cast<const std::uint32_t*>(from);
    }
  }
  return left;
}

/// The warp's 16 rows of an operand along its whole width: kept in registers, or loaded each time.
template <int kWidth, class T, bool kKept>
class LeftRows {
 public:
  __device__ LeftRows(const HeadRows& rows, int head, int row, const FlashShape& s)
      : rows_(rows), s_(s), head_(head), row_(row) {
    if constexpr (kKept) {
#pragma unroll
      for (int k = 0; k < kWidth / 16; ++k) kept_[k] = load_left<T>(rows, head, row, k, s);
    }
  }
  __device__ LeftTile operator[](int k) const {
    if constexpr (kKept) {
      return kept_[k];
    } else {
      return load_left<T>(rows_, head_, row_, k, s_);
    }
  }

 private:
  const HeadRows& rows_;
  const FlashShape& s_;
  int head_, row_;
  LeftTile kept_[kKept ? kWidth / 16 : 1];
};

/// sums[n] += the warp's rows times rows 8 n.. of the tile, both along the head's width.
template <int kWidth, class T>
__device__ inline void add_scores(SumTile (&sums)[kKeyTiles], const LeftTile& left, const T* tile,
                                  int k) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int n = 0; n < kKeyTiles; ++n) {
    const T* from = tile + (n * 8 + lane / 4) * Tile<kWidth>::kStride + k * 16 + lane % 4 * 2;
    multiply<T>(sums[n], left, *reinterpret_cast<const std::uint32_t*>(from),
                *reinterpret_cast<const std::uint32_t*>(from + 8));
  }
}

/// Sum tiles 2j and 2j + 1 as the left factor of a product over their 16 columns.
template <class T>
__device__ inline LeftTile as_left(const SumTile& low, const SumTile& high) {
  return {pair<T>(low.c[0], low.c[1]), pair<T>(low.c[2], low.c[3]), pair<T>(high.c[0], high.c[1]),
          pair<T>(high.c[2], high.c[3])};
}

/// out[n] += the [16, 64] factor in `parts` times the tile [64, width].
template <int kWidth, class T>
__device__ inline void add_product(SumTile (&out)[kWidth / 8], const SumTile (&parts)[kKeyTiles],
                                   const T* tile) {
#pragma unroll
  for (int j = 0; j < kKeyTiles; j += 2) {
    const LeftTile left = as_left<T>(parts[j], parts[j + 1]);
    const T* const rows = tile + static_cast<std::ptrdiff_t>(j) * 8 * Tile<kWidth>::kStride;
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n) {
      std::uint32_t b0 = 0;
      std::uint32_t b1 = 0;
      load_turned(rows + static_cast<std::ptrdiff_t>(n) * 8, Tile<kWidth>::kStride, b0, b1);
      multiply<T>(out[n], left, b0, b1);
    }
  }
}

/// The warp's 16 rows from row `row` on, times their factors, to memory.
template <int kWidth, class T>
__device__ inline void store_rows(const SumTile (&sums)[kWidth / 8], float low, float high,
                                  const HeadRows& rows, int head, int row, const FlashShape& s) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int n = 0; n < kWidth / 8; ++n) {
    const int column = n * 8 + lane % 4 * 2;
    if (column >= s.width) continue;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int r = row + lane / 4 + half * 8;
      if (r >= s.tokens) continue;
      const float factor = half == 0 ? low : high;
      T* to = static_cast<T*>(rows.data) + static_cast<std::int64_t>(r) * rows.stride +
              head * s.width + column;
      *reinterpret_cast<std::uint32_t*>(to) =
          pair<T>(sums[n].c[2 * half] * factor, sums[n].c[2 * half + 1] * factor);
    }
  }
}

/// The first key that token t sees; beyond the tokens none.
__device__ inline int first_key(const FlashShape& s, int t) {
  if (t >= s.tokens) return INT32_MAX;
  int first = s.doc_start[t];
  if (s.window > 0 && t - s.window + 1 > first) first = t - s.window + 1;
  return first;
}

/// The least first key of the tile's tokens; all threads of the block call it.
__device__ inline int least_first_key(const FlashShape& s, int first_token, int* shared) {
  __syncthreads();
  if (threadIdx.x == 0) *shared = INT32_MAX;
  __syncthreads();
  if (threadIdx.x < kFlashTile) atomicMin(shared, first_key(s, first_token + threadIdx.x));
  __syncthreads();
  return *shared;
}

/// launch(T{}, width) for the element's type and the width of the tiles, both constants.
template <class Launch>
void by_type_and_width(const FlashShape& s, const Launch& launch) {
  const auto by_width = [&](auto type) {
    switch (flash_tile_width(s.width)) {
      case 64:
        return launch(type, std::integral_constant<int, 64>{});
      case 128:
        return launch(type, std::integral_constant<int, 128>{});
      default:
        return launch(type, std::integral_constant<int, 256>{});
    }
  };
  if (s.tokens == 0) return;
  s.type == DType::bf16 ? by_width(Bf16{}) : by_width(Half{});
}

/// A block for every tile of tokens and every head.
inline Grid grid_of(const FlashShape& s, int heads) {
  return {.x = static_cast<unsigned>((s.tokens + kFlashTile - 1) / kFlashTile),
          .y = static_cast<unsigned>(heads)};
}

}  // namespace snug::cuda
