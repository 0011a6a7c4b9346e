#pragma once
// Tensor cores on a host, lane by lane, as the PTX ISA defines them ("Matrix Fragments for
// mma.m16n8k16", "ldmatrix"). Takes the place of src/backend/cuda/present/mma.cuh.

#include <bit>
#include <cstdint>

#include "backend/cuda/present/fragments.h"
#include "backend/cuda/present/grid.cuh"
#include "core/floats.h"

namespace snug::cuda {

using Bf16 = BFloat16;
using Half = Float16;

/// The first of a pair lies in the low half.
template <class T>
float half_of(std::uint32_t pair, int which) {
  return static_cast<float>(std::bit_cast<T>(static_cast<std::uint16_t>(pair >> (16 * which))));
}

template <class T>
std::uint32_t pair(float first, float second) {
  const auto low = std::bit_cast<std::uint16_t>(T(first));
  const auto high = std::bit_cast<std::uint16_t>(T(second));
  return low | static_cast<std::uint32_t>(high) << 16;
}

/// Fragments of a lane.
struct Factors {
  LeftTile left;
  std::uint32_t right[2];
};

/// Element (row, k) of the 16 x 16 left factor.
template <class T>
float left_of(const void* const (&lanes)[32], int row, int k) {
  const auto& of = *static_cast<const Factors*>(lanes[row % 8 * 4 + k % 8 / 2]);
  return half_of<T>(of.left.a[row / 8 + k / 8 * 2], k % 2);
}

/// Element (k, column) of the 16 x 8 right factor.
template <class T>
float right_of(const void* const (&lanes)[32], int k, int column) {
  const auto& of = *static_cast<const Factors*>(lanes[column * 4 + k % 8 / 2]);
  return half_of<T>(of.right[k / 8], k % 2);
}

template <class T>
void multiply(SumTile& sum, const LeftTile& left, std::uint32_t b0, std::uint32_t b1) {
  const Factors own{left, {b0, b1}};
  const auto lane = static_cast<int>(threadIdx.x % 32);
  emulation::exchange(&own, [&](const void* const(&lanes)[32]) {
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8;
      const int column = lane % 4 * 2 + i % 2;
      for (int k = 0; k < 16; ++k) {
        sum.c[i] += left_of<T>(lanes, row, k) * right_of<T>(lanes, k, column);
      }
    }
  });
}

/// ldmatrix.x2.trans: lane l < 16 brings the address of row l; register i of lane l is rows
/// 8 i + 2 (l % 4) and the next, column l / 4.
template <class T>
void load_turned(const T* tile, int stride, std::uint32_t& b0, std::uint32_t& b1) {
  const auto lane = static_cast<int>(threadIdx.x % 32);
  const T* const row = tile + lane % 16 * stride;
  emulation::exchange(&row, [&](const void* const(&lanes)[32]) {
    const auto at = [&](int r) {
      return std::bit_cast<std::uint16_t>((*static_cast<const T* const*>(lanes[r]))[lane / 4]);
    };
    const auto both = [&](int r) { return at(r) | static_cast<std::uint32_t>(at(r + 1)) << 16; };
    b0 = both(lane % 4 * 2);
    b1 = both(8 + lane % 4 * 2);
  });
}

}  // namespace snug::cuda
