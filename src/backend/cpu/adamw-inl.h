// AdamW on vectors. Included once per Highway target, so no #pragma once.

#if defined(SNUG_BACKEND_CPU_ADAMW_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SNUG_BACKEND_CPU_ADAMW_INL_H_
#undef SNUG_BACKEND_CPU_ADAMW_INL_H_
#else
#define SNUG_BACKEND_CPU_ADAMW_INL_H_
#endif

#include <hwy/highway.h>

#include "backend/cpu/adamw_factors.h"
#include "backend/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {

struct AdamWVectors {
  explicit AdamWVectors(const AdamWFactors& f)
      : decay(hn::Set(F32(), f.decay)),
        step(hn::Set(F32(), f.step)),
        inverse(hn::Set(F32(), f.inverse)),
        rest1(hn::Set(F32(), f.rest1)),
        rest2(hn::Set(F32(), f.rest2)),
        keep2(hn::Set(F32(), f.keep2)),
        eps(hn::Set(F32(), f.eps)) {}

  HWY_INLINE Vec first(Vec m, Vec g) const { return hn::Add(m, hn::Mul(rest1, hn::Sub(g, m))); }
  HWY_INLINE Vec second(Vec v, Vec g) const {
    return hn::Add(hn::Mul(keep2, v), hn::Mul(rest2, hn::Mul(g, g)));
  }
  /// The new weight from the new m and the root of the new v.
  HWY_INLINE Vec weight(Vec p, Vec m, Vec root) const {
    const Vec denominator = hn::Add(hn::Mul(root, inverse), eps);
    return hn::Sub(hn::Mul(p, decay), hn::Mul(step, hn::Div(m, denominator)));
  }

  Vec decay, step, inverse, rest1, rest2, keep2, eps;
};

}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#endif  // include guard
