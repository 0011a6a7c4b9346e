// SIMD helpers shared by the CPU kernels. Included once per Highway target, so no #pragma once.

#if defined(SNUG_BACKEND_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SNUG_BACKEND_CPU_SIMD_INL_H_
#undef SNUG_BACKEND_CPU_SIMD_INL_H_
#else
#define SNUG_BACKEND_CPU_SIMD_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

#include "core/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using U32 = hn::RebindToUnsigned<F32>;
using I32 = hn::RebindToSigned<F32>;
using U16 = hn::Rebind<uint16_t, F32>;
using Vec = hn::Vec<F32>;

HWY_INLINE int64_t lanes() { return static_cast<int64_t>(hn::Lanes(F32())); }

HWY_INLINE Vec widen_bf16(hn::Vec<U16> bits) {
  return hn::BitCast(F32(), hn::ShiftLeft<16>(hn::PromoteTo(U32(), bits)));
}

/// The bf16 nearest to each value, even on a tie, in the low half; NaN stays a quiet NaN.
HWY_INLINE hn::Vec<U32> nearest_bf16(Vec value) {
  const U32 du;
  const auto bits = hn::BitCast(du, value);
  const auto upper = hn::ShiftRight<16>(bits);
  const auto odd = hn::And(upper, hn::Set(du, 1));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fff))));
  const auto quiet = hn::Or(upper, hn::Set(du, 0x40));
  return hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(value)), quiet, rounded);
}

HWY_INLINE hn::Vec<U16> round_bf16(Vec value) { return hn::TruncateTo(U16(), nearest_bf16(value)); }

HWY_INLINE Vec load(const float* from) { return hn::LoadU(F32(), from); }
HWY_INLINE Vec load(const BFloat16* from) {
  return widen_bf16(hn::LoadU(U16(), reinterpret_cast<const uint16_t*>(from)));
}

HWY_INLINE void store(Vec value, float* to) { hn::StoreU(value, F32(), to); }
HWY_INLINE void store(Vec value, BFloat16* to) {
  hn::StoreU(round_bf16(value), U16(), reinterpret_cast<uint16_t*>(to));
}

/// The first `count` < lanes() elements; the rest of the vector is zero and is not read.
template <class T>
HWY_INLINE Vec load_some(const T* from, int64_t count) {
  HWY_ALIGN T buffer[HWY_MAX_BYTES / sizeof(float)] = {};
  std::memcpy(buffer, from, static_cast<size_t>(count) * sizeof(T));
  return load(buffer);
}

template <class T>
HWY_INLINE void store_some(Vec value, T* to, int64_t count) {
  HWY_ALIGN T buffer[HWY_MAX_BYTES / sizeof(float)];
  store(value, buffer);
  std::memcpy(to, buffer, static_cast<size_t>(count) * sizeof(T));
}

HWY_INLINE void store_bits(hn::Vec<U16> bits, BFloat16* to) {
  hn::StoreU(bits, U16(), reinterpret_cast<uint16_t*>(to));
}

HWY_INLINE void store_some_bits(hn::Vec<U16> bits, BFloat16* to, int64_t count) {
  HWY_ALIGN BFloat16 buffer[HWY_MAX_BYTES / sizeof(float)];
  store_bits(bits, buffer);
  std::memcpy(to, buffer, static_cast<size_t>(count) * sizeof(BFloat16));
}

/// Vector i of a row of `count` elements that starts at `from`: the last may be short.
template <class T>
HWY_INLINE Vec load_in(const T* from, int64_t i, int64_t count) {
  return count - i >= lanes() ? load(from + i) : load_some(from + i, count - i);
}

template <class T>
HWY_INLINE void store_in(Vec value, T* to, int64_t i, int64_t count) {
  if (count - i >= lanes()) {
    store(value, to + i);
  } else {
    store_some(value, to + i, count - i);
  }
}

/// Sum of the lanes, in an order fixed by the instruction set.
HWY_INLINE float sum_lanes(Vec value) { return hn::GetLane(hn::SumOfLanes(F32(), value)); }

/// Adding this rounds |x| < 2^22 to the nearest integer n; the sum's low bits are then n + 127.
constexpr float kRounder = 12582912.0F + 127.0F;

/// 2^n from n + kRounder, for n in [-126, 127]; 0 for n = -127.
HWY_INLINE Vec power_of_two(Vec rounded) {
  return hn::BitCast(F32(), hn::ShiftLeft<23>(hn::BitCast(U32(), rounded)));
}

/// e^x within 2 ulp over the whole range: subnormal results, 0 and infinity included; NaN stays.
HWY_INLINE Vec exp_f32(Vec x) {
  const F32 d;
  const Vec rounder = hn::Set(d, kRounder);
  const Vec clamped = hn::Min(hn::Set(d, 89.0F), hn::Max(hn::Set(d, -104.0F), x));
  const Vec n = hn::Sub(hn::MulAdd(clamped, hn::Set(d, 1.44269504F), rounder), rounder);
  Vec r = hn::NegMulAdd(n, hn::Set(d, 0.693145752F), clamped);  // ln 2 in two parts
  r = hn::NegMulAdd(n, hn::Set(d, 1.42860677e-6F), r);
  Vec p = hn::Set(d, 1.0F / 5040.0F);  // Taylor: remainder < 6e-9 for |r| <= ln(2)/2
  p = hn::MulAdd(p, r, hn::Set(d, 1.0F / 720.0F));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0F / 120.0F));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0F / 24.0F));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0F / 6.0F));
  p = hn::MulAdd(p, r, hn::Set(d, 0.5F));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0F));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0F));
  // 2^n in two factors: n reaches -150 and 128.
  const Vec half = hn::MulAdd(n, hn::Set(d, 0.5F), rounder);
  const Vec rest = hn::Add(hn::Sub(n, hn::Sub(half, rounder)), rounder);
  return hn::Mul(hn::Mul(p, power_of_two(half)), power_of_two(rest));
}

/// 2^x for x <= 0 within 2 ulp, 0 below 2^-126; exactly 1 for x = 0; NaN stays.
HWY_INLINE Vec exp2_nonpositive(Vec x) {
  const F32 d;
  const Vec rounder = hn::Set(d, kRounder);
  const Vec clamped = hn::Max(hn::Set(d, -127.0F), x);
  const Vec rounded = hn::Add(clamped, rounder);
  const Vec r = hn::Sub(clamped, hn::Sub(rounded, rounder));
  Vec p = hn::Set(d, 1.545316294e-4F);  // Chebyshev fit of (2^r - 1) / r: error 5e-9 of 2^r
  p = hn::MulAdd(p, r, hn::Set(d, 1.339086336e-3F));
  p = hn::MulAdd(p, r, hn::Set(d, 9.618082557e-3F));
  p = hn::MulAdd(p, r, hn::Set(d, 5.550357114e-2F));
  p = hn::MulAdd(p, r, hn::Set(d, 2.402265076e-1F));
  p = hn::MulAdd(p, r, hn::Set(d, 6.931471880e-1F));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0F));
  return hn::Mul(p, power_of_two(rounded));
}

}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#endif  // include guard
