#pragma once
// Runs of random bits, many counters at a time.

#include <cstdint>

#include "core/philox.h"

namespace snug {

/// out[i] = random.bits16(first + i) for i in [0, count).
void fill_bits16(const RandomStream& random, std::uint64_t first, std::int64_t count,
                 std::uint16_t* out);

}  // namespace snug
