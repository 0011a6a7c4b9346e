#pragma once
// What a lane holds of a warp's tiles (PTX ISA, "Matrix Fragments for mma.m16n8k16"): g is lane /
// 4, t is lane % 4.

#include <cstdint>

namespace snug::cuda {

/// 16 x 16 of the left factor: a[0] rows g, columns 2t; a[1] rows g + 8; a[2], a[3] columns + 8.
struct LeftTile {
  std::uint32_t a[4];
};
/// 16 x 8 sums: c[0], c[1] row g, columns 2t and 2t + 1; c[2], c[3] row g + 8.
struct SumTile {
  float c[4];
};

}  // namespace snug::cuda
