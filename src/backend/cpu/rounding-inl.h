// Stochastic rounding to bf16 with Philox bits, a vector of elements at a time.
// Included once per Highway target, so no #pragma once.

#if defined(SNUG_BACKEND_CPU_ROUNDING_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SNUG_BACKEND_CPU_ROUNDING_INL_H_
#undef SNUG_BACKEND_CPU_ROUNDING_INL_H_
#else
#define SNUG_BACKEND_CPU_ROUNDING_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

#include "backend/cpu/simd-inl.h"
#include "core/philox.h"

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {

/// Elements whose random bits are drawn together; drawn groups start at multiples of it.
constexpr int64_t kDrawn = 128;

/// Rounds up with probability low16 / 65536, random in [0, 65535]; Inf and NaN as round_bf16.
HWY_INLINE hn::Vec<U16> round_bf16_stochastic(Vec value, hn::Vec<U16> random) {
  const U32 du;
  const auto sum = hn::Add(hn::BitCast(du, value), hn::PromoteTo(du, random));
  const auto finite = hn::RebindMask(du, hn::IsFinite(value));
  return hn::TruncateTo(U16(),
                        hn::IfThenElse(finite, hn::ShiftRight<16>(sum), nearest_bf16(value)));
}

struct WideProduct {
  hn::Vec<U32> low;
  hn::Vec<U32> high;
};

HWY_INLINE WideProduct multiply_wide(hn::Vec<U32> a, uint32_t factor) {
  const U32 du;
  const hn::RepartitionToWide<U32> du64;
  const auto right = hn::Set(du, factor);
  const auto even = hn::MulEven(a, right);
  const auto odd = hn::MulEven(hn::BitCast(du, hn::ShiftRight<32>(hn::BitCast(du64, a))), right);
  return {hn::OddEven(hn::BitCast(du, hn::ShiftLeft<32>(odd)), hn::BitCast(du, even)),
          hn::OddEven(hn::BitCast(du, odd), hn::BitCast(du, hn::ShiftRight<32>(even)))};
}

/// bits[i] = stream.bits16(first + i) for i in [0, kDrawn); `first` is a multiple of 8.
HWY_INLINE void draw_bits(const RandomStream& stream, uint64_t first, uint16_t* bits) {
  const U32 du;
  for (int64_t done = 0; done < kDrawn; done += 8 * lanes()) {
    const uint64_t block = (first + static_cast<uint64_t>(done)) / 8;
    const auto low = hn::Set(du, static_cast<uint32_t>(block));
    auto c0 = hn::Add(low, hn::Iota(du, 0));
    const auto carry = hn::VecFromMask(du, hn::Lt(c0, low));  // all ones: subtracting adds 1
    auto c1 = hn::Sub(hn::Set(du, static_cast<uint32_t>(block >> 32)), carry);
    auto c2 = hn::Set(du, stream.step);
    auto c3 = hn::Set(du, stream.part);
    PhiloxKey key = stream.key();
    for (int round = 0; round < kPhiloxRounds; ++round) {
      const WideProduct p0 = multiply_wide(c0, kPhiloxMultiplier0);
      const WideProduct p1 = multiply_wide(c2, kPhiloxMultiplier1);
      c0 = hn::Xor(hn::Xor(p1.high, c1), hn::Set(du, key[0]));
      c2 = hn::Xor(hn::Xor(p0.high, c3), hn::Set(du, key[1]));
      c1 = p1.low;
      c3 = p0.low;
      key[0] += kPhiloxWeyl0;
      key[1] += kPhiloxWeyl1;
    }
    hn::StoreInterleaved4(c0, c1, c2, c3, du, reinterpret_cast<uint32_t*>(bits + done));
  }
}

/// The random bits of consecutive elements, drawn as they are asked for.
class RandomBits {
 public:
  explicit RandomBits(const RandomStream& stream) : stream_(stream) {}

  /// bits16 of the elements element .. element + lanes() - 1.
  HWY_INLINE hn::Vec<U16> at(uint64_t element) {
    const uint64_t end = element + static_cast<uint64_t>(lanes());
    if (element < begin_ || end > end_) draw(element, end);
    return hn::LoadU(U16(), bits_ + (element - begin_));
  }

 private:
  HWY_NOINLINE void draw(uint64_t element, uint64_t end) {
    begin_ = element / kDrawn * kDrawn;
    end_ = begin_ + kDrawn;
    draw_bits(stream_, begin_, bits_);
    if (end <= end_) return;
    draw_bits(stream_, end_, bits_ + kDrawn);
    end_ += kDrawn;
  }

  RandomStream stream_;
  uint64_t begin_ = 0;
  uint64_t end_ = 0;
  HWY_ALIGN uint16_t bits_[2 * kDrawn];
};

}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#endif  // include guard
