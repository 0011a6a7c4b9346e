#pragma once
// Tensor cores by warp: 16 x 8 tiles of fp32 sums, 16-bit factors (PTX ISA, "Matrix Fragments for
// mma.m16n8k16"). Lane l holds rows l / 4 and l / 4 + 8, columns 2 (l % 4) and the next.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "backend/cuda/present/fragments.h"

namespace snug::cuda {

using Bf16 = __nv_bfloat16;
using Half = __half;

template <class T>
__device__ void multiply(SumTile& sum, const LeftTile& left, std::uint32_t b0, std::uint32_t b1);

template <>
__device__ inline void multiply<Bf16>(SumTile& sum, const LeftTile& left, std::uint32_t b0,
                                      std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
      "{%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(sum.c[0]), "+f"(sum.c[1]), "+f"(sum.c[2]), "+f"(sum.c[3])
      : "r"(left.a[0]), "r"(left.a[1]), "r"(left.a[2]), "r"(left.a[3]), "r"(b0), "r"(b1));
}

template <>
__device__ inline void multiply<Half>(SumTile& sum, const LeftTile& left, std::uint32_t b0,
                                      std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
      "{%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(sum.c[0]), "+f"(sum.c[1]), "+f"(sum.c[2]), "+f"(sum.c[3])
      : "r"(left.a[0]), "r"(left.a[1]), "r"(left.a[2]), "r"(left.a[3]), "r"(b0), "r"(b1));
}

/// Two numbers as neighbours, the first in the low half.
template <class T>
__device__ std::uint32_t pair(float first, float second);

template <>
__device__ inline std::uint32_t pair<Bf16>(float first, float second) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(first, second);
  return *reinterpret_cast<const std::uint32_t*>(&both);
}
template <>
__device__ inline std::uint32_t pair<Half>(float first, float second) {
  const __half2 both = __floats2half2_rn(first, second);
  return *reinterpret_cast<const std::uint32_t*>(&both);
}

/// The two registers of the right factor [16 rows of `tile`, 8 columns], rows `stride` elements
/// apart in shared memory, row 0 at `tile`: transposed as they are loaded.
template <class T>
__device__ inline void load_turned(const T* tile, int stride, std::uint32_t& b0,
                                   std::uint32_t& b1) {
  const T* row = tile + (threadIdx.x % 16) * stride;
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];\n"
               : "=r"(b0), "=r"(b1)
               : "r"(address));
}

}  // namespace snug::cuda
