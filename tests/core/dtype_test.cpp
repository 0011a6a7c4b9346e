#include "core/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>

namespace snug {
namespace {

TEST(DType, NamesRoundTrip) {
  for (const DType type : {DType::f64, DType::f32, DType::bf16, DType::f16, DType::i64, DType::i32,
                           DType::u8, DType::i8}) {
    EXPECT_EQ(dtype_from_name(name_of(type)), type);
  }
  EXPECT_FALSE(dtype_from_name("float"));
}

TEST(Float16, EveryHalfSurvivesWideningAndRounding) {
  for (std::uint32_t bits = 0; bits < 0x10000U; ++bits) {
    const float wide = Float16::widen(static_cast<std::uint16_t>(bits));
    if (std::isnan(wide)) continue;
    EXPECT_EQ(Float16::round(wide), bits);
  }
}

TEST(Float16, RoundsTiesToEvenOnBothSidesOfEveryHalf) {
  for (std::uint32_t bits = 0; bits < 0x7bffU; ++bits) {
    const double low = Float16::widen(static_cast<std::uint16_t>(bits));
    const double high = Float16::widen(static_cast<std::uint16_t>(bits + 1));
    const auto middle =
        static_cast<float>((low + high) / 2);  // exact: one bit more than a half has
    const std::uint32_t even = (bits & 1U) == 0 ? bits : bits + 1;
    EXPECT_EQ(Float16::round(middle), even);
    EXPECT_EQ(Float16::round(std::nextafter(middle, -1.0F)), bits);
    EXPECT_EQ(Float16::round(std::nextafter(middle, 1e9F)), bits + 1);
  }
  EXPECT_EQ(Float16::round(65520.0F), 0x7c00U);
  EXPECT_EQ(Float16::round(65519.9F), 0x7bffU);
}

TEST(BFloat16, StochasticRoundingIsUnbiased) {
  // Over all 65,536 random words the mean of the results is the value itself.
  for (const float value : {1.00390625F, 3.14159274F, -2.71828175F, 1e-30F}) {
    double sum = 0;
    for (std::uint32_t r = 0; r < 0x10000U; ++r) {
      sum += static_cast<float>(BFloat16::round_stochastic(value, r));
    }
    EXPECT_EQ(sum / 65536.0, static_cast<double>(value));
  }
}

TEST(BFloat16, NanAndInfinitySurvive) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(std::isnan(static_cast<float>(BFloat16(nan))));
  EXPECT_EQ(static_cast<float>(BFloat16::round_stochastic(infinity, 0xffffU)), infinity);
  EXPECT_TRUE(std::isnan(static_cast<float>(BFloat16::round_stochastic(nan, 0xffffU))));
}

}  // namespace
}  // namespace snug
