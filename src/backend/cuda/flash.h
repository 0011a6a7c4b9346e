#pragma once
// Tiled attention on tensor cores: what its kernels are given.

#include <cstdint>

#include "core/floats.h"

namespace snug::cuda {

/// Rows of heads of one operand: element j of head h of token t is data[t * stride + h * width +
/// j].
struct HeadRows {
  void* data = nullptr;
  std::int64_t stride = 0;
};

struct FlashShape {
  DType type;  ///< bf16 or f16
  int tokens, heads, groups, width;
  int window;  ///< 0: none
  float scale;
  const std::int32_t* doc_start;
};

struct FlashForward {
  FlashShape shape;
  HeadRows q, k, v, o;
  float* lse;  ///< [heads, tokens]
};

struct FlashBackward {
  FlashShape shape;
  HeadRows q, k, v, o, d_o, dq, dk, dv;
  const float* lse;
  float* delta;  ///< scratch [heads, tokens]
};

/// Rows of a tile of queries and of keys.
inline constexpr int kFlashTile = 64;
/// Of a block: four warps, 16 rows each.
inline constexpr int kFlashThreads = 128;
inline constexpr int kFlashWidest = 256;

/// The width that tiles of heads of `width` have: 64, 128 or 256, the rest zeros.
constexpr int flash_tile_width(int width) { return width <= 64 ? 64 : width <= 128 ? 128 : 256; }

/// Shared memory of a block: two tiles whose rows are 16 bytes apart in banks, and three numbers a
/// row.
constexpr std::int64_t flash_shared_bytes(int width) {
  return 2 * kFlashTile * (flash_tile_width(width) + 8) * 2 + 3 * kFlashTile * 4;
}
static_assert(flash_shared_bytes(kFlashWidest) <= 99 << 10);

void run_flash_forward(void* queue, const FlashForward& call);
void run_flash_backward(void* queue, const FlashBackward& call);

}  // namespace snug::cuda
