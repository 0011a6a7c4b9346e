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

// A lane of 64 bits holds one word of a counter in its lower half; its upper half means nothing.
using Lanes = hn::ScalableTag<std::uint64_t>;
using Words = hn::Repartition<std::uint32_t, Lanes>;
using WordVector = hn::Vec<Words>;
constexpr std::int64_t kLanes = static_cast<std::int64_t>(hn::MaxLanes(Lanes()));
constexpr int kVectors = 2;  // at a time, so that one's latency hides behind the other
constexpr std::int64_t kBlocks = kVectors * kLanes;
constexpr std::int64_t kElements = 8 * kBlocks;  // 16-bit numbers

struct Counters {
  WordVector c0, c1, c2, c3;
};

HWY_INLINE void philox_round(Counters& c, WordVector key0, WordVector key1) {
  const Words d;
  const auto product0 = hn::MulEven(c.c0, hn::Set(d, kPhiloxMultiplier0));
  const auto product1 = hn::MulEven(c.c2, hn::Set(d, kPhiloxMultiplier1));
  c.c0 = hn::Xor3(hn::BitCast(d, hn::ShiftRight<32>(product1)), c.c1, key0);
  c.c2 = hn::Xor3(hn::BitCast(d, hn::ShiftRight<32>(product0)), c.c3, key1);
  c.c1 = hn::BitCast(d, product1);
  c.c3 = hn::BitCast(d, product0);
}

// Lane 2 i holds block i of a vector, lane 2 i + 1 block kLanes / 2 + i: interleaving by 128 bits
// then leaves the blocks in order.
HWY_INLINE void store_blocks(const Counters& c, std::uint64_t* out) {
  const Words d;
  const Lanes wide;
  const auto joined = [&](WordVector low, WordVector high) HWY_ATTR {
    const auto raised = hn::BitCast(d, hn::ShiftLeft<32>(hn::BitCast(wide, high)));
    return hn::BitCast(wide, hn::OddEven(raised, low));
  };
  const auto first = joined(c.c0, c.c1);
  const auto second = joined(c.c2, c.c3);
  hn::StoreU(hn::InterleaveLower(wide, first, second), wide, out);
  hn::StoreU(hn::InterleaveUpper(wide, first, second), wide, out + kLanes);
}

// The bits of blocks [block, block + kBlocks), whose indices share their upper 32 bits.
HWY_INLINE void blocks16(const RandomStream& random, std::uint64_t block, std::uint16_t* out) {
  const Words d;
  const Lanes wide;
  const auto iota = hn::Iota(wide, 0);
  const auto odd = hn::And(iota, hn::Set(wide, 1));
  const auto order = hn::Add(hn::ShiftRight<1>(iota), hn::Mul(odd, hn::Set(wide, kLanes / 2)));
  Counters counters[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const auto first = hn::Set(wide, block + static_cast<std::uint64_t>(v) * kLanes);
    counters[v] = {hn::BitCast(d, hn::Add(order, first)),
                   hn::Set(d, static_cast<std::uint32_t>(block >> 32)), hn::Set(d, random.step),
                   hn::Set(d, random.part)};
  }
  PhiloxKey key = random.key();
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const auto key0 = hn::Set(d, key[0]);
    const auto key1 = hn::Set(d, key[1]);
    for (int v = 0; v < kVectors; ++v) philox_round(counters[v], key0, key1);
    key[0] += kPhiloxWeyl0;
    key[1] += kPhiloxWeyl1;
  }
  for (int v = 0; v < kVectors; ++v) {
    store_blocks(counters[v], reinterpret_cast<std::uint64_t*>(out) + 2 * kLanes * v);
  }
}

void fill16(const RandomStream& random, std::uint64_t first, std::int64_t count,
            std::uint16_t* out) {
  constexpr std::uint64_t kLow32 = 0xffffffffU;
  alignas(64) std::uint16_t bits[kElements];
  for (std::int64_t done = 0; done < count;) {
    const std::uint64_t index = first + static_cast<std::uint64_t>(done);
    const std::uint64_t block = index / 8;
    if ((block & kLow32) > kLow32 - static_cast<std::uint64_t>(kBlocks)) {
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
