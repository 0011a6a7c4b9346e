#include "backend/cpu/philox_fill.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/philox_fill.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h, which includes this file once a target.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace snug::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_SCALAR

void fill16(const RandomStream& random, std::uint64_t first, std::int64_t count,
            std::uint16_t* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    out[i] = random.bits16(first + static_cast<std::uint64_t>(i));
  }
}

#else

namespace hn = hwy::HWY_NAMESPACE;

using Words = hn::ScalableTag<std::uint32_t>;
using WordVector = hn::Vec<Words>;
constexpr std::int64_t kBlocks = static_cast<std::int64_t>(hn::MaxLanes(Words()));
constexpr std::int64_t kElements = 8 * kBlocks;  // 16-bit numbers of a vector of blocks

// High and low words of multiplier * x.
HWY_INLINE void multiply(std::uint32_t multiplier, WordVector x, WordVector& high,
                         WordVector& low) {
  const Words d;
  const hn::RepartitionToWide<Words> wide;
  const auto m = hn::Set(d, multiplier);
  const auto even = hn::MulEven(x, m);
  const auto odd = hn::MulEven(hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(wide, x))), m);
  low = hn::OddEven(hn::BitCast(d, hn::ShiftLeft<32>(odd)), hn::BitCast(d, even));
  high = hn::OddEven(hn::BitCast(d, odd), hn::BitCast(d, hn::ShiftRight<32>(even)));
}

// The bits of blocks [block, block + kBlocks), whose indices share their upper 32 bits.
HWY_INLINE void blocks16(const RandomStream& random, std::uint64_t block, std::uint16_t* out) {
  const Words d;
  PhiloxKey key = random.key();
  WordVector c0 = hn::Add(hn::Iota(d, 0), hn::Set(d, static_cast<std::uint32_t>(block)));
  WordVector c1 = hn::Set(d, static_cast<std::uint32_t>(block >> 32));
  WordVector c2 = hn::Set(d, random.step);
  WordVector c3 = hn::Set(d, random.part);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    WordVector high0;
    WordVector low0;
    WordVector high1;
    WordVector low1;
    multiply(kPhiloxMultiplier0, c0, high0, low0);
    multiply(kPhiloxMultiplier1, c2, high1, low1);
    c0 = hn::Xor(hn::Xor(high1, c1), hn::Set(d, key[0]));
    c1 = low1;
    c2 = hn::Xor(hn::Xor(high0, c3), hn::Set(d, key[1]));
    c3 = low0;
    key[0] += kPhiloxWeyl0;
    key[1] += kPhiloxWeyl1;
  }
  hn::StoreInterleaved4(c0, c1, c2, c3, d, reinterpret_cast<std::uint32_t*>(out));
}

void fill16(const RandomStream& random, std::uint64_t first, std::int64_t count,
            std::uint16_t* out) {
  constexpr std::uint64_t low32 = 0xffffffffU;
  alignas(64) std::uint16_t bits[kElements];
  for (std::int64_t done = 0; done < count;) {
    const std::uint64_t index = first + static_cast<std::uint64_t>(done);
    const std::uint64_t block = index / 8;
    if ((block & low32) > low32 - static_cast<std::uint64_t>(kBlocks)) {
      out[done++] = random.bits16(index);  // beside the carry into the upper half of the index
      continue;
    }
    const auto skipped = static_cast<std::int64_t>(index % 8);
    if (skipped == 0 && count - done >= kElements) {
      blocks16(random, block, out + done);
      done += kElements;
    } else {
      blocks16(random, block, bits);
      const std::int64_t taken = std::min(count - done, kElements - skipped);
      std::copy_n(bits + skipped, taken, out + done);
      done += taken;
    }
  }
}

#endif

}  // namespace
}  // namespace snug::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace snug {
HWY_EXPORT(fill16);

void fill_bits16(const RandomStream& random, std::uint64_t first, std::int64_t count,
                 std::uint16_t* out) {
  HWY_DYNAMIC_DISPATCH(fill16)(random, first, count, out);
}

}  // namespace snug
#endif
