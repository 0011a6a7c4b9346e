#pragma once
// A factor of a product as BLAS sees it: a column-major matrix, turned or not.

#include <cstdint>
#include <optional>

#include "backend/cuda/bodies_products.h"

namespace snug::cuda {

struct BlasMatrix {
  std::int64_t leading = 0;  ///< elements from one column to the next
  bool inner_first = false;  ///< the sum's index is the one whose elements are neighbours
  friend bool operator==(const BlasMatrix&, const BlasMatrix&) = default;
};

/// None when neither index of the factor has neighbouring elements, or rows with gaps fit neither.
inline std::optional<BlasMatrix> blas_matrix(const Factor& factor) {
  const bool inner_first = factor.inner == 1;
  if (!inner_first && factor.outer != 1) return std::nullopt;
  const std::int64_t stride = inner_first ? factor.outer : factor.inner;
  if (factor.of.gap != 0 && factor.of.row != stride) return std::nullopt;
  return BlasMatrix{stride + factor.of.gap, inner_first};
}

/// The largest power of two up to 256 that an address is a multiple of.
inline std::uint32_t alignment_of(const void* address) {
  const auto bits = reinterpret_cast<std::uintptr_t>(address) | 256U;
  return static_cast<std::uint32_t>(bits & (~bits + 1));
}

}  // namespace snug::cuda
