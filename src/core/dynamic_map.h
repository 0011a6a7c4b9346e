#pragma once
// The 8-bit dynamic maps of bitsandbytes (Dettmers et al., arXiv 2110.02861): 256 values in [-1, 1]
// of the tree type, sorted, bit-equal to bitsandbytes' create_dynamic_map.

#include <array>
#include <cstdint>

namespace snug {

using DynamicMap = std::array<float, 256>;

/// Both signs; zero is code 127; the smallest is -0.9929687, the largest 1.
const DynamicMap& signed_dynamic_map();
/// No negative values; zero is code 0.
const DynamicMap& unsigned_dynamic_map();

/// The code of the entry nearest to `value`; half way between two, the lower.
std::uint8_t nearest_code(const DynamicMap& map, float value);

}  // namespace snug
