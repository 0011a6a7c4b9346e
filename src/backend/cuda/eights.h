#pragma once
// Private to the CUDA back end: bodies that go eight elements at a time where their operands allow
// it, else one.

#include <initializer_list>

#include "backend/cuda/bodies_eights.h"

namespace snug::cuda {

inline constexpr std::int64_t kEight = 8;

/// Whether all lie at multiples of 16 bytes; what is not present does.
bool aligned(std::initializer_list<View> views);

/// f(T{}) for the type of the elements: bf16, f16 or f32.
template <class Function>
void by_type(DType type, Function f) {
  switch (type) {
    case DType::bf16:
      return f(BFloat16{});
    case DType::f16:
      return f(Float16{});
    default:
      return f(float{});
  }
}

/// The tile's elements into its y, which is dense.
void dequantize_tile(void* queue, const DequantizeTile& tile);

/// `size` sums, dense, into where they belong.
void store_sums(void* queue, std::int64_t size, const StoreSums& store);

}  // namespace snug::cuda
