#pragma once
// Matrix products on raw pointers: packed panels, fixed order of every sum, our own threads.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "backend/cpu/isa.h"
#include "core/dtype.h"
#include "core/packed_format.h"
#include "core/philox.h"
#include "core/thread_pool.h"

namespace snug {

/// An operand of C[m,n] = sum_k A(m,k) B(n,k), row-major with `stride` elements between rows:
/// [outer, k] when `k_contiguous`, else [k, outer]; outer is m for A, n for B. bf16 or f32.
struct GemmMatrix {
  const void* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t stride = 0;
  bool k_contiguous = true;
  /// Of B: `data` and `stride` are unused; elements are unpacked to `dtype` panel by panel.
  const PackedMatrix* packed = nullptr;
};

/// Rounds what is stored in bf16 up or down at random. Element (row, col) of the output draws
/// random.bits16(first + row * row_elements + col).
struct StochasticRounding {
  RandomStream random;
  std::uint64_t first = 0;
  std::uint64_t row_elements = 0;
};

/// Where C goes: data = round(product (+ bias[n]) (+ data if accumulate)), all sums in fp32.
/// To nearest even unless `rounding` is set (bf16 only).
struct GemmOutput {
  void* data = nullptr;  // [m, n]
  DType dtype = DType::f32;
  std::int64_t stride = 0;
  bool accumulate = false;
  const void* bias = nullptr;  // [n], or none
  DType bias_dtype = DType::f32;
  std::optional<StochasticRounding> rounding = std::nullopt;
};

/// All that a product's scratch depends on.
struct GemmShape {
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  DType a = DType::f32;
  DType b = DType::f32;
  bool a_k_contiguous = true;
  bool rounding = false;
  bool b_packed = false;
};

/// Bytes of scratch that gemm() may use, never less for a larger m or n, nor for a larger k when A
/// is not k-contiguous.
std::int64_t gemm_scratch(const GemmShape& shape, Isa isa, int threads);

/// C = A B^T as above. On Isa::amx two bf16 operands are multiplied as they are, all else in fp32
/// on fp32 panels; sums are fp32 in both. A sum's order depends on k and the isa alone, so an
/// element has the same bits for any m, n, tiling and number of threads. k = 0 gives zeros.
/// `isa` is what Highway dispatches to as well (cap_isa); `scratch` is aligned to 64 bytes, of at
/// least gemm_scratch() bytes. Reads and writes nothing beyond the operands. Allocates nothing.
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, const GemmMatrix& a, const GemmMatrix& b,
          const GemmOutput& output, Isa isa, std::span<std::byte> scratch, ThreadPool& pool);

/// The largest number of rows that small_forward() takes.
inline constexpr std::int64_t kSmallRows = 8;

/// y[rows, n] = x[rows, k] w[n, k]^T (+ bias) for at most kSmallRows rows: reads w once, at memory
/// speed, without scratch. Sums in fp32 in another order than gemm(); an element's bits do not
/// depend on the number of rows. The operands are k-contiguous; `output` has no rounding.
void small_forward(std::int64_t rows, std::int64_t n, std::int64_t k, const GemmMatrix& x,
                   const GemmMatrix& w, const GemmOutput& output, ThreadPool& pool);

}  // namespace snug
