#pragma once
// Where a kernel that sums a gradient in f32 puts it.

#include <cstdint>

#include "core/dtype.h"
#include "core/philox.h"

namespace snug {

struct GradientOutput {
  DType type = DType::f32;  ///< f32 or bf16
  void* data = nullptr;
  bool accumulate = false;  ///< add to what is there (in f32, rounded once) or overwrite
  /// Not nullptr: bf16 is rounded stochastically with the 16 bits of the element's number, counted
  /// from `first_element` for data[0]. nullptr: to nearest.
  const RandomStream* rounding = nullptr;
  std::uint64_t first_element = 0;
};

}  // namespace snug
