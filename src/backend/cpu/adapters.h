#pragma once
// DoRA's column scales and norms, and dropout, on [rows, columns] operands.

#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/cpu/gemm.h"
#include "backend/cpu/gradient_output.h"
#include "backend/cpu/rows.h"
#include "core/dtype.h"
#include "core/philox.h"
#include "core/thread_pool.h"

namespace snug {

/// A vector of bf16 or f32; none when `data` is null.
struct VectorIn {
  const void* data = nullptr;
  DType type = DType::f32;
};

/// y = x * m / n + bias by columns; y may be x. x and y are bf16 or f32.
struct ScaleColumns {
  DType type = DType::bf16;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  RowsIn x;
  VectorIn m;
  const float* n = nullptr;
  VectorIn bias;
  RowsOut y;
};
std::int64_t scale_columns_scratch(std::int64_t columns);
void scale_columns(const ScaleColumns& call, std::span<std::byte> scratch, ThreadPool& pool);

/// out = or += the sum over rows, in order, of dy * x, divided by n.
void scale_columns_gradient(DType type, std::int64_t rows, std::int64_t columns, RowsIn dy,
                            RowsIn x, const float* n, const GradientOutput& out, ThreadPool& pool);

/// out[i] = the norm of row i of w + scale b a, from w's norms, w at, and a at: w [rows, columns],
/// a [rank, columns], b [rows, rank]. b a is never formed.
struct DoraNorm {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t rank = 0;
  GemmMatrix w;
  GemmMatrix a;
  VectorIn b;  ///< dense
  float scale = 1;
  float* out = nullptr;
};
std::int64_t dora_norm_scratch(const DoraNorm& call, Isa isa, int threads);
void dora_norm(const DoraNorm& call, Isa isa, std::span<std::byte> scratch, ThreadPool& pool);

/// As the op says; y may be x.
struct Dropout {
  DType type = DType::bf16;
  std::int64_t tokens = 0;
  std::int64_t width = 0;
  RowsIn x;
  RandomStream stream;  ///< its part is the row
  std::uint32_t threshold = 0;
  const std::int32_t* rows = nullptr;
  const std::int32_t* positions = nullptr;
  RowsOut y;
};
void dropout(const Dropout& call, ThreadPool& pool);

}  // namespace snug
