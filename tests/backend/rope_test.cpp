#include "backend/cpu/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "backend/kernel_testing.h"
#include "core/error.h"

namespace snug {
namespace {

using testing::Guarded;

template <class T>
struct Problem {
  std::int64_t tokens, heads, dim, positions = 40;
  std::int64_t stride = heads * dim + 5;
  Guarded<T> x{tokens * stride}, y{tokens * stride};
  Guarded<float> cos{positions * dim / 2}, sin{positions * dim / 2};
  std::vector<std::int32_t> at;

  Problem(std::int64_t t, std::int64_t h, std::int64_t d) : tokens(t), heads(h), dim(d) {
    testing::fill_normal(x, 1);
    ThreadPool pool(2);
    rope_table({.positions = positions, .head_dim = dim}, cos.data(), sin.data(), pool);
    for (std::int64_t i = 0; i < tokens; ++i) at.push_back(static_cast<std::int32_t>(i * 7 % 40));
  }

  void run(const T* from, T* to, bool inverse, int threads) {
    ThreadPool pool(threads);
    rope({testing::dtype_of<T>(), tokens, heads, dim, from, stride, cos.data(), sin.data(),
          positions, at.data(), inverse, to, stride},
         pool);
  }
};

template <class T>
void expect_right(std::int64_t tokens, std::int64_t heads, std::int64_t dim) {
  Problem<T> p(tokens, heads, dim);
  p.run(p.x.data(), p.y.data(), false, 2);
  const double limit = 1.01 * testing::half_ulp<T>();
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t i = 0; i < dim / 2; ++i) {
        const std::int64_t a = t * p.stride + h * dim + i;
        const double angle =
            p.at[static_cast<std::size_t>(t)] *
            std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(dim));
        const double x1 = p.x.at(a);
        const double x2 = p.x.at(a + dim / 2);
        const double y1 = x1 * std::cos(angle) - x2 * std::sin(angle);
        const double y2 = x2 * std::cos(angle) + x1 * std::sin(angle);
        const double slack = 0x1p-22 * (std::abs(x1) + std::abs(x2));
        ASSERT_NEAR(p.y.at(a), y1, std::abs(y1) * limit + slack);
        ASSERT_NEAR(p.y.at(a + dim / 2), y2, std::abs(y2) * limit + slack);
      }
    }
  }
  p.y.expect_guards_untouched();
}

TEST(Rope, RotatesHalves) {
  expect_right<float>(1, 1, 2);
  expect_right<float>(45, 3, 20);
  expect_right<BFloat16>(33, 9, 64);
  expect_right<BFloat16>(7, 2, 100);
}

TEST(Rope, InverseUndoesItInPlace) {
  Problem<float> p(50, 3, 40);
  p.run(p.x.data(), p.y.data(), false, 1);
  p.run(p.y.data(), p.y.data(), true, 3);
  for (std::int64_t t = 0; t < 50; ++t) {
    for (std::int64_t i = t * p.stride; i < t * p.stride + 120; ++i) {
      ASSERT_NEAR(p.y[i], p.x[i], 1e-6 * 4);
    }
  }
}

TEST(Rope, BitsDoNotDependOnThreads) {
  Problem<BFloat16> p(200, 9, 64);
  p.run(p.x.data(), p.y.data(), false, 1);
  const Guarded<BFloat16> one = p.y;
  for (const int threads : {2, 3}) {
    p.run(p.x.data(), p.y.data(), false, threads);
    EXPECT_TRUE(one.same_bits(p.y));
  }
}

TEST(Rope, RefusesAPositionOutsideTheTable) {
  Problem<float> p(3, 1, 8);
  p.at[1] = 40;
  EXPECT_THROW(p.run(p.x.data(), p.y.data(), false, 1), InternalError);
}

// Angles of position 1, from transformers 5.23's ROPE_INIT_FUNCTIONS formulas worked by hand for
// theta 500000, head size 128: pairs 0 (kept), 63 (divided) and 30 (between).
TEST(RopeTable, Llama3ScalesLowFrequencies) {
  const std::int64_t dim = 128;
  std::vector<float> cos(128), sin(128);
  ThreadPool pool(1);
  rope_table({.theta = 500000,
              .scaling = RopeScaling::llama3,
              .factor = 8,
              .low_freq_factor = 1,
              .high_freq_factor = 4,
              .original_max_positions = 8192,
              .positions = 2,
              .head_dim = dim},
             cos.data(), sin.data(), pool);
  const auto plain = [](double i) { return std::pow(500000.0, -i / 64); };
  EXPECT_EQ(cos[0], 1.0F);
  EXPECT_EQ(sin[0], 0.0F);
  EXPECT_NEAR(sin[64 + 0], std::sin(1.0), 1e-7);
  EXPECT_NEAR(sin[64 + 63], std::sin(plain(63) / 8), 1e-13);
  int between = 0;
  for (int i = 0; i < 64; ++i) {
    const double wavelength = 2 * M_PI / plain(i);
    double want = plain(i);
    if (wavelength > 8192.0 / 1) {
      want /= 8;
    } else if (wavelength >= 8192.0 / 4) {
      const double smooth = (8192 / wavelength - 1) / (4 - 1);
      want = (1 - smooth) * want / 8 + smooth * want;
      ++between;
    }
    EXPECT_NEAR(sin[static_cast<std::size_t>(64 + i)], std::sin(want), 6e-8 * want) << i;
  }
  EXPECT_GT(between, 0);
}

TEST(RopeTable, LinearDividesAll) {
  std::vector<float> cos(12), sin(12);
  ThreadPool pool(1);
  rope_table(
      {.theta = 100, .scaling = RopeScaling::linear, .factor = 4, .positions = 3, .head_dim = 8},
      cos.data(), sin.data(), pool);
  for (int i = 0; i < 4; ++i) {
    EXPECT_NEAR(cos[static_cast<std::size_t>(8 + i)], std::cos(2 * std::pow(100.0, -i / 4.0) / 4),
                6e-8);
  }
}

}  // namespace
}  // namespace snug
