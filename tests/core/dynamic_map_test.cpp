#include "core/dynamic_map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>

namespace snug {
namespace {

/// FNV-1a of the bits of all entries.
std::uint64_t digest(const DynamicMap& map) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const float value : map) {
    hash = (hash ^ std::bit_cast<std::uint32_t>(value)) * 0x100000001b3ULL;
  }
  return hash;
}

TEST(DynamicMap, HasTheBitsOfBitsandbytes) {
  EXPECT_EQ(digest(signed_dynamic_map()), 0x690ca6ad558a2475ULL);
  EXPECT_EQ(digest(unsigned_dynamic_map()), 0xa9aaf4b4f33a51e3ULL);
  EXPECT_EQ(signed_dynamic_map()[127], 0.0F);
  EXPECT_EQ(signed_dynamic_map()[0], -0.99296874F);
  EXPECT_EQ(signed_dynamic_map()[255], 1.0F);
  EXPECT_EQ(unsigned_dynamic_map()[0], 0.0F);
  EXPECT_EQ(unsigned_dynamic_map()[127], 0.103515625F);
}

TEST(DynamicMap, NearestCodeIsNearestAndTakesTheLowerOfTwo) {
  for (const DynamicMap* map : {&signed_dynamic_map(), &unsigned_dynamic_map()}) {
    EXPECT_TRUE(std::is_sorted(map->begin(), map->end()));
    for (int i = -1100; i <= 1100; ++i) {
      const float value = static_cast<float>(i) * 1e-3F;
      const float found = (*map)[nearest_code(*map, value)];
      for (const float other : *map) {
        EXPECT_LE(std::abs(found - value), std::abs(other - value) + 1e-8F);
      }
    }
    for (std::size_t code = 0; code < 256; ++code) {
      EXPECT_EQ(nearest_code(*map, (*map)[code]), code);
    }
  }
  const float middle = (signed_dynamic_map()[254] + 1.0F) / 2.0F;
  EXPECT_EQ(nearest_code(signed_dynamic_map(), middle), 254);
  EXPECT_EQ(nearest_code(signed_dynamic_map(), std::nextafter(middle, 1.0F)), 255);
}

}  // namespace
}  // namespace snug
