#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/simd_test.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// The target's code comes after foreach_target.h.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "backend/cpu/parallel.h"
#include "backend/cpu/rounding-inl.h"
#include "backend/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {
namespace {

void exp_all(const float* x, float* y, int64_t count) {
  for (int64_t i = 0; i < count; i += lanes()) store_in(exp_f32(load_in(x, i, count)), y, i, count);
}

void exp2_all(const float* x, float* y, int64_t count) {
  for (int64_t i = 0; i < count; i += lanes()) {
    store_in(exp2_nonpositive(load_in(x, i, count)), y, i, count);
  }
}

void round_all(const float* x, BFloat16* y, int64_t count) {
  for (int64_t i = 0; i < count; i += lanes()) store_in(load_in(x, i, count), y, i, count);
}

void round_random(const RandomStream& stream, uint64_t first, const float* x, BFloat16* y,
                  int64_t count) {
  RandomBits random(stream);
  for (int64_t i = 0; i < count; i += lanes()) {
    const auto bits =
        round_bf16_stochastic(load_in(x, i, count), random.at(first + static_cast<uint64_t>(i)));
    store_some_bits(bits, y + i, std::min(lanes(), count - i));
  }
}

void round_with(const float* x, const uint16_t* random, BFloat16* y, int64_t count) {
  for (int64_t i = 0; i + lanes() <= count; i += lanes()) {
    store_bits(round_bf16_stochastic(load(x + i), hn::LoadU(U16(), random + i)), y + i);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace snug {
namespace {

HWY_EXPORT(exp_all);
HWY_EXPORT(exp2_all);
HWY_EXPORT(round_all);
HWY_EXPORT(round_random);
HWY_EXPORT(round_with);

double ulps(float got, double want) {
  const double magnitude = std::max(std::abs(want), static_cast<double>(0x1p-126F));
  return std::abs(got - want) / std::ldexp(1.0, std::ilogb(magnitude) - 23);
}

void add_range(std::vector<float>& x, double begin, double end, int count) {
  for (int i = 0; i <= count; ++i)
    x.push_back(static_cast<float>(begin + (end - begin) * i / count));
}

TEST(Simd, ExpIsWithinTwoUlp) {
  choose_target();
  std::vector<float> x;
  add_range(x, -103.9, 88.72, 250000);
  add_range(x, -1e-3, 1e-3, 10000);
  std::vector<float> y(x.size());
  HWY_DYNAMIC_DISPATCH(exp_all)(x.data(), y.data(), static_cast<std::int64_t>(x.size()));
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    worst = std::max(worst, ulps(y[i], std::exp(static_cast<double>(x[i]))));
  }
  EXPECT_LE(worst, 2.0);
}

TEST(Simd, ExpAtTheEnds) {
  choose_target();
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {0.0F, -0.0F, inf, -inf, 1e30F, -1e30F, NAN, 88.8F};
  std::vector<float> y(x.size());
  HWY_DYNAMIC_DISPATCH(exp_all)(x.data(), y.data(), static_cast<std::int64_t>(x.size()));
  EXPECT_EQ(y[0], 1.0F);
  EXPECT_EQ(y[1], 1.0F);
  EXPECT_EQ(y[2], inf);
  EXPECT_EQ(y[3], 0.0F);
  EXPECT_EQ(y[4], inf);
  EXPECT_EQ(y[5], 0.0F);
  EXPECT_TRUE(std::isnan(y[6]));
  EXPECT_EQ(y[7], inf);
}

TEST(Simd, Exp2IsWithinTwoUlp) {
  choose_target();
  std::vector<float> x = {0.0F, -std::numeric_limits<float>::infinity(), -1e30F, NAN};
  add_range(x, -125.9, 0, 400000);
  std::vector<float> y(x.size());
  HWY_DYNAMIC_DISPATCH(exp2_all)(x.data(), y.data(), static_cast<std::int64_t>(x.size()));
  EXPECT_EQ(y[0], 1.0F);
  EXPECT_EQ(y[1], 0.0F);
  EXPECT_EQ(y[2], 0.0F);
  EXPECT_TRUE(std::isnan(y[3]));
  double worst = 0;
  for (std::size_t i = 4; i < x.size(); ++i) {
    worst = std::max(worst, ulps(y[i], std::exp2(static_cast<double>(x[i]))));
  }
  EXPECT_LE(worst, 2.0);
}

TEST(Simd, RoundsToBf16AsTheScalarTypeDoes) {
  choose_target();
  std::vector<float> x;
  for (std::uint32_t upper = 0; upper < 0x10000U; ++upper) {
    for (const std::uint32_t lower : {0U, 1U, 0x7fffU, 0x8000U, 0x8001U, 0xffffU}) {
      x.push_back(std::bit_cast<float>(upper << 16 | lower));
    }
  }
  std::vector<BFloat16> y(x.size());
  HWY_DYNAMIC_DISPATCH(round_all)(x.data(), y.data(), static_cast<std::int64_t>(x.size()));
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(y[i].bits, BFloat16::round(x[i])) << i;
}

TEST(Simd, RoundsStochasticallyAsTheScalarStreamDoes) {
  choose_target();
  const RandomStream stream{.seed = 42, .stream = stream_hash("a.weight"), .step = 7, .part = 3};
  for (const std::uint64_t first : {std::uint64_t{0}, std::uint64_t{5}, std::uint64_t{121},
                                    (std::uint64_t{1} << 35) - 40, std::uint64_t{1} << 40}) {
    std::vector<float> x(1000);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i)) * 100;
    x[10] = NAN;
    x[11] = std::numeric_limits<float>::infinity();
    std::vector<BFloat16> y(x.size());
    HWY_DYNAMIC_DISPATCH(round_random)
    (stream, first, x.data(), y.data(), static_cast<std::int64_t>(x.size()));
    for (std::size_t i = 0; i < x.size(); ++i) {
      const BFloat16 want = BFloat16::round_stochastic(x[i], stream.bits16(first + i));
      ASSERT_EQ(y[i].bits, want.bits) << first << " " << i;
    }
  }
}

TEST(Simd, TheMeanOverAllRandomBitsIsTheValue) {
  choose_target();
  for (const float value : {1.2345678F, -3.1415927e-5F, 65503.2F}) {
    const std::vector<float> x(65536, value);
    std::vector<std::uint16_t> random(x.size());
    for (std::size_t i = 0; i < random.size(); ++i) random[i] = static_cast<std::uint16_t>(i);
    std::vector<BFloat16> y(x.size());
    HWY_DYNAMIC_DISPATCH(round_with)
    (x.data(), random.data(), y.data(), static_cast<std::int64_t>(x.size()));
    double sum = 0;
    for (const BFloat16 v : y) sum += static_cast<double>(static_cast<float>(v));
    EXPECT_EQ(sum / 65536, static_cast<double>(value));
  }
}

}  // namespace
}  // namespace snug
#endif
