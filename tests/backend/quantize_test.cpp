// Golden numbers: bitsandbytes 0.50 on the same values.

#include "backend/cpu/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/dynamic_map.h"
#include "core/packed_format.h"

namespace snug {
namespace {

/// Multiples of 1/64 in [-1.5625, 1.5625], shuffled.
std::vector<float> sample(int count) {
  std::vector<float> values;
  for (int i = 0; i < count; ++i) {
    values.push_back(static_cast<float>((i * 37 + 11) % 201 - 100) / 64.0F);
  }
  return values;
}

std::uint64_t digest(const void* data, std::size_t bytes) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (std::size_t i = 0; i < bytes; ++i) {
    hash = (hash ^ static_cast<const std::uint8_t*>(data)[i]) * 0x100000001b3ULL;
  }
  return hash;
}

struct Nf4 {
  explicit Nf4(const std::vector<float>& values)
      : codes(static_cast<std::size_t>(
            packed_code_bytes(PackedFormat::nf4, static_cast<std::int64_t>(values.size())))),
        scales((values.size() + kPackedBlock - 1) / kPackedBlock) {
    quantize_nf4(values, codes.data(), scales.data());
  }
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
};

TEST(Quantize, Nf4HasTheBitsOfBitsandbytes) {
  const Nf4 packed(sample(320));
  EXPECT_EQ(digest(packed.codes.data(), packed.codes.size()), 0xbb66e93ae90fe9e8ULL);
  EXPECT_EQ(packed.scales, (std::vector{1.5625F, 1.546875F, 1.546875F, 1.5625F, 1.546875F}));
  const std::vector<std::uint8_t> first(packed.codes.begin(), packed.codes.begin() + 4);
  EXPECT_EQ(first, (std::vector<std::uint8_t>{0x02, 0x5a, 0xdf, 0x14}));
}

TEST(Quantize, Nf4TakesTheLowerOfTwoLevels) {
  const auto levels = levels_of(PackedFormat::nf4);
  std::vector<float> values{1.0F};
  for (std::size_t i = 0; i < 15; ++i) {
    const float middle = (levels[i] + levels[i + 1]) / 2.0F;
    values.push_back(middle);
    values.push_back(std::nextafter(middle, 2.0F));
  }
  values.push_back(-1.0F);
  const Nf4 packed(values);
  const auto code = [&](std::size_t i) {
    return i % 2 == 0 ? packed.codes[i / 2] >> 4 : packed.codes[i / 2] & 15;
  };
  for (std::size_t i = 0; i < 15; ++i) {
    EXPECT_EQ(code(1 + 2 * i), static_cast<int>(i));
    EXPECT_EQ(code(2 + 2 * i), static_cast<int>(i) + 1);
  }
  EXPECT_EQ(code(31), 0);
}

TEST(Quantize, Nf4PadsOddEndsAndKeepsZeros) {
  std::vector<float> values(64 + 3, 0.0F);
  values[64] = 2.0F;
  const Nf4 packed(values);
  EXPECT_EQ(packed.scales, (std::vector{0.0F, 2.0F}));
  for (std::size_t i = 0; i < 32; ++i) EXPECT_EQ(packed.codes[i], 0x77);
  EXPECT_EQ(packed.codes[32], 0xf7);
  EXPECT_EQ(packed.codes[33], 0x77);
}

TEST(Quantize, Int8HasTheBitsOfBitsandbytes) {
  const std::vector<float> values = sample(96);
  std::vector<std::int8_t> codes(96);
  std::vector<float> scales(2);
  quantize_int8(std::span(values).first(48), codes.data(), scales.data());
  quantize_int8(std::span(values).last(48), codes.data() + 48, scales.data() + 1);
  EXPECT_EQ(scales, (std::vector{1.5625F, 1.5625F}));
  EXPECT_EQ(digest(codes.data(), codes.size()), 0xdbeb9fbb50f1ab5fULL);
  EXPECT_EQ(codes[0], -113);
  // Half of the largest: 1 / scale * 127 is rounded twice, off 127 / scale by one step or none.
  quantize_int8(std::vector{0.1572265625F, 0.07861328125F}, codes.data(), scales.data());
  EXPECT_EQ(codes[1], 64);
  quantize_int8(std::vector{0.162109375F, 0.0810546875F}, codes.data(), scales.data());
  EXPECT_EQ(codes[1], 63);
  std::vector<std::int8_t> none(3, 1);
  quantize_int8(std::vector{0.0F, 0.0F, -0.0F}, none.data(), scales.data());
  EXPECT_EQ(none, (std::vector<std::int8_t>{0, 0, 0}));
}

TEST(Quantize, ScalesComeBackWithinHalfAStepOfTheMap) {
  std::vector<float> scales;
  for (int i = 0; i < 600; ++i) scales.push_back(0.02F + 0.001F * static_cast<float>(i * 7 % 31));
  std::vector<std::uint8_t> codes(scales.size());
  std::vector<float> nested(3);
  float offset = 0;
  quantize_scales(scales, codes.data(), nested.data(), &offset);
  EXPECT_NEAR(offset, 0.035, 1e-4);
  for (std::size_t i = 0; i < scales.size(); ++i) {
    const float most = nested[i / kNestedBlock];
    const float back = signed_dynamic_map()[codes[i]] * most + offset;
    EXPECT_NEAR(back, scales[i], 0.0071F * most);  // half the widest gap of the map
  }
}

TEST(Quantize, EqualScalesHaveNoRest) {
  const std::vector<float> scales(300, 0.25F);
  std::vector<std::uint8_t> codes(300);
  std::vector<float> nested(2);
  float offset = 0;
  quantize_scales(scales, codes.data(), nested.data(), &offset);
  EXPECT_EQ(offset, 0.25F);
  EXPECT_EQ(nested, (std::vector{0.0F, 0.0F}));
  EXPECT_EQ(signed_dynamic_map()[codes[0]], 0.0F);
}

}  // namespace
}  // namespace snug
