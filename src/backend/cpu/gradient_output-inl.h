// Writing f32 sums to a GradientOutput. Included once per Highway target, so no #pragma once.

#if defined(SNUG_BACKEND_CPU_GRADIENT_OUTPUT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SNUG_BACKEND_CPU_GRADIENT_OUTPUT_INL_H_
#undef SNUG_BACKEND_CPU_GRADIENT_OUTPUT_INL_H_
#else
#define SNUG_BACKEND_CPU_GRADIENT_OUTPUT_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>

#include "backend/cpu/gradient_output.h"
#include "backend/cpu/rounding-inl.h"
#include "backend/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {

HWY_INLINE hn::Vec<U16> round_gradient(Vec value, const RandomStream* rounding, RandomBits& random,
                                       uint64_t element) {
  if (rounding == nullptr) return round_bf16(value);
  return round_bf16_stochastic(value, random.at(element));
}

/// data[first, first + count) = or += sums[0, count).
HWY_INLINE void write_gradient(const GradientOutput& out, int64_t first, const float* sums,
                               int64_t count) {
  const int64_t n = lanes();
  if (out.type == DType::f32) {
    float* to = static_cast<float*>(out.data) + first;
    for (int64_t i = 0; i < count; i += n) {
      Vec value = load_in(sums, i, count);
      if (out.accumulate) value = hn::Add(load_in(to, i, count), value);
      store_in(value, to, i, count);
    }
    return;
  }
  auto* to = static_cast<BFloat16*>(out.data) + first;
  const uint64_t element = out.first_element + static_cast<uint64_t>(first);
  RandomBits random(out.rounding != nullptr ? *out.rounding : RandomStream{});
  for (int64_t i = 0; i < count; i += n) {
    Vec value = load_in(sums, i, count);
    if (out.accumulate) value = hn::Add(load_in(to, i, count), value);
    const auto bits =
        round_gradient(value, out.rounding, random, element + static_cast<uint64_t>(i));
    if (count - i >= n) {
      store_bits(bits, to + i);
    } else {
      store_some_bits(bits, to + i, count - i);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#endif  // include guard
