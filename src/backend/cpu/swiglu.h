#pragma once
// The gated activation of Llama's MLP: silu(gate) * up, silu(g) = g / (1 + e^-g).

#include <cstdint>

#include "backend/cpu/rows.h"
#include "core/dtype.h"
#include "core/thread_pool.h"

namespace snug {

/// y = silu(gate) * up. y may be gate or up.
struct SiluMul {
  DType type = DType::bf16;  ///< of all operands: bf16 or f32
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  RowsIn gate;
  RowsIn up;
  RowsOut y;
};
void silu_mul(const SiluMul& call, ThreadPool& pool);

/// dgate = dy * up * silu'(gate), dup = dy * silu(gate). Each may be any of gate, up and dy, but
/// not the same one.
struct SiluMulGrad {
  DType type = DType::bf16;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  RowsIn gate;
  RowsIn up;
  RowsIn dy;
  RowsOut dgate;
  RowsOut dup;
};
void silu_mul_grad(const SiluMulGrad& call, ThreadPool& pool);

}  // namespace snug
