#pragma once
// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011). A number depends on what it is for, never on when or where it is drawn.

#include <array>
#include <cstdint>
#include <string_view>

namespace snug {

using PhiloxKey = std::array<std::uint32_t, 2>;
using PhiloxBlock = std::array<std::uint32_t, 4>;

inline constexpr int kPhiloxRounds = 10;
inline constexpr std::uint32_t kPhiloxMultiplier0 = 0xD2511F53U;
inline constexpr std::uint32_t kPhiloxMultiplier1 = 0xCD9E8D57U;
inline constexpr std::uint32_t kPhiloxWeyl0 = 0x9E3779B9U;
inline constexpr std::uint32_t kPhiloxWeyl1 = 0xBB67AE85U;

/// The 128 random bits of one counter.
constexpr PhiloxBlock philox4x32(PhiloxBlock counter, PhiloxKey key) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const std::uint64_t p0 = std::uint64_t{kPhiloxMultiplier0} * counter[0];
    const std::uint64_t p1 = std::uint64_t{kPhiloxMultiplier1} * counter[2];
    counter = {
        static_cast<std::uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(p1),
        static_cast<std::uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(p0)};
    key[0] += kPhiloxWeyl0;
    key[1] += kPhiloxWeyl1;
  }
  return counter;
}

/// The 64-bit number of a stream's name (FNV-1a, then SplitMix64's finaliser).
std::uint64_t stream_hash(std::string_view name);

/// One stream of random numbers at one step: a 64-bit index leads to the number. `part` tells apart
/// draws that share an index.
struct RandomStream {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;  // stream_hash() of the name
  std::uint32_t step = 0;
  std::uint32_t part = 0;

  constexpr PhiloxKey key() const {
    const std::uint64_t mixed = seed ^ stream;
    return {static_cast<std::uint32_t>(mixed), static_cast<std::uint32_t>(mixed >> 32)};
  }
  /// Random bits of block `index`: 4 words.
  constexpr PhiloxBlock block(std::uint64_t index) const {
    return philox4x32(
        {static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32), step, part},
        key());
  }
  /// 32 random bits of element `index`: word index % 4 of block index / 4.
  constexpr std::uint32_t bits32(std::uint64_t index) const { return block(index / 4)[index % 4]; }
  /// 16 random bits of element `index` (stochastic rounding): half index % 2 (low first) of word
  /// index / 2 % 4 of block index / 8.
  constexpr std::uint16_t bits16(std::uint64_t index) const {
    const std::uint32_t word = block(index / 8)[index / 2 % 4];
    return static_cast<std::uint16_t>(index % 2 == 0 ? word : word >> 16);
  }
};

}  // namespace snug
