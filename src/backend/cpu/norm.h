#pragma once
// RMS norm: y = x / sqrt(mean(x^2) + eps) * weight over the last dimension.

#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/cpu/gradient_output.h"
#include "core/dtype.h"
#include "core/thread_pool.h"

namespace snug {

/// Rows of x [tokens, groups, width]: the row (t, g) starts at t * stride + g * width. groups = 1
/// for a norm of the whole row, the number of heads for one of queries or keys.
struct NormShape {
  DType type = DType::bf16;         ///< of x, y and their gradients: bf16 or f32
  DType weight_type = DType::bf16;  ///< bf16 or f32
  std::int64_t tokens = 0;
  std::int64_t groups = 1;
  std::int64_t width = 0;
  float eps = 0;

  std::int64_t rows() const { return tokens * groups; }
};

struct RmsNormForward {
  NormShape shape;
  const void* x = nullptr;
  std::int64_t x_stride = 0;
  const void* weight = nullptr;  ///< [width]
  void* y = nullptr;             ///< may be x
  std::int64_t y_stride = 0;
};

/// A row's bits do not depend on the other rows.
void rms_norm_forward(const RmsNormForward& call, ThreadPool& pool);

/// dx = rstd * (dy * w - x_hat * mean(dy * w * x_hat)) and dw = sum over rows of dy * x_hat with
/// x_hat = x * rstd, recomputed from x.
struct RmsNormBackward {
  NormShape shape;
  const void* x = nullptr;
  std::int64_t x_stride = 0;
  const void* weight = nullptr;  ///< [width]; not read for dw alone
  const void* dy = nullptr;
  std::int64_t dy_stride = 0;
  void* dx = nullptr;  ///< may be dy; nullptr: not wanted
  std::int64_t dx_stride = 0;
  const GradientOutput* dw = nullptr;  ///< [width]; nullptr: not wanted
};

/// Bytes of scratch, aligned to 64; none is needed without dw.
std::int64_t rms_norm_backward_scratch(const NormShape& shape);

/// dw sums blocks of 128 rows in order, whatever the threads.
void rms_norm_backward(const RmsNormBackward& call, std::span<std::byte> scratch, ThreadPool& pool);

}  // namespace snug
