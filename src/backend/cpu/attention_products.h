#pragma once
// bf16 products for attention's tiles, on AMX or VDPBF16PS.

#include <cstdint>

#include "plan/target.h"

namespace snug {

/// Operands are 32-bit pairs of bf16 that follow each other along the summed dimension, the first
/// in the low half; sums are f32, over the pairs in order.
struct PairProducts {
  /// C[rows, columns] = or += A[rows, pairs] B[pairs, columns]: rows, pairs and columns are
  /// multiples of 16, strides count elements, all pointers are aligned to 64 bytes.
  using Multiply = void (*)(const std::uint32_t* a, std::int64_t a_row, std::int64_t rows,
                            const std::uint32_t* b, std::int64_t b_row, std::int64_t pairs,
                            std::int64_t columns, float* c, std::int64_t c_row, bool add);
  Multiply multiply = nullptr;

  /// Run by a thread before its first and after its last product.
  void (*begin)() = nullptr;
  void (*end)() = nullptr;
};

/// nullptr for an instruction set without bf16 products.
const PairProducts* pair_products(Isa isa);

}  // namespace snug
