#include "backend/cpu/norm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "backend/kernel_testing.h"

namespace snug {
namespace {

using testing::Guarded;
using testing::ScratchArea;

template <class T, class W>
struct Problem {
  NormShape shape;
  std::int64_t stride = shape.groups * shape.width + 7;
  Guarded<T> x{shape.tokens * stride}, dy{shape.tokens * stride}, y{shape.tokens * stride},
      dx{shape.tokens * stride};
  Guarded<W> weight{shape.width};
  Guarded<float> dw{shape.width};

  Problem(std::int64_t tokens, std::int64_t groups, std::int64_t width)
      : shape{testing::dtype_of<T>(), testing::dtype_of<W>(), tokens, groups, width, 1e-5F} {
    testing::fill_normal(x, 1);
    testing::fill_normal(dy, 2);
    testing::fill_normal(weight, 3);
  }

  void run(int threads) {
    ThreadPool pool(threads);
    rms_norm_forward({shape, x.data(), stride, weight.data(), y.data(), stride}, pool);
    ScratchArea scratch(rms_norm_backward_scratch(shape));
    const GradientOutput out{.type = DType::f32, .data = dw.data()};
    rms_norm_backward(
        {shape, x.data(), stride, weight.data(), dy.data(), stride, dx.data(), stride, &out},
        scratch.span(), pool);
  }

  // Errors of single elements in units of what rounding allows.
  void expect_right() const {
    const auto width = static_cast<double>(shape.width);
    const double sum_error = 0x1p-24 * (8 + std::sqrt(width));
    std::vector<double> want_dw(static_cast<std::size_t>(shape.width));
    for (std::int64_t row = 0; row < shape.rows(); ++row) {
      const std::int64_t at = row / shape.groups * stride + row % shape.groups * shape.width;
      double squares = 0;
      double dot = 0;
      for (std::int64_t i = 0; i < shape.width; ++i) {
        squares += x.at(at + i) * x.at(at + i);
        dot += dy.at(at + i) * weight.at(i) * x.at(at + i);
      }
      const double rstd = 1 / std::sqrt(squares / width + static_cast<double>(shape.eps));
      for (std::int64_t i = 0; i < shape.width; ++i) {
        const double x_hat = x.at(at + i) * rstd;
        const double want_y = x_hat * weight.at(i);
        const double want_dx = rstd * (dy.at(at + i) * weight.at(i) - x_hat * dot * rstd / width);
        const double store = 1.01 * testing::half_ulp<T>();
        ASSERT_NEAR(y.at(at + i), want_y, std::abs(want_y) * (store + sum_error));
        ASSERT_NEAR(dx.at(at + i), want_dx, std::abs(want_dx) * store + 20 * rstd * sum_error);
        want_dw[static_cast<std::size_t>(i)] += dy.at(at + i) * x_hat;
      }
    }
    const auto rows = static_cast<double>(shape.rows());
    for (std::int64_t i = 0; i < shape.width; ++i) {
      ASSERT_NEAR(dw.at(i), want_dw[static_cast<std::size_t>(i)], 0x1p-24 * 16 * rows);
    }
    y.expect_guards_untouched();
    dx.expect_guards_untouched();
    dw.expect_guards_untouched();
  }
};

template <class T, class W>
void expect_right(std::int64_t tokens, std::int64_t groups, std::int64_t width) {
  Problem<T, W> p(tokens, groups, width);
  p.run(2);
  p.expect_right();
}

TEST(RmsNorm, EqualsTheDefinition) {
  for (const std::int64_t width : {1, 7, 16, 33, 576, 1000}) {
    expect_right<float, float>(3, 1, width);
    expect_right<BFloat16, BFloat16>(5, 1, width);
    expect_right<BFloat16, float>(2, 1, width);
    expect_right<float, BFloat16>(1, 1, width);
  }
}

TEST(RmsNorm, NormsEachHead) {
  expect_right<float, float>(67, 3, 20);
  expect_right<BFloat16, BFloat16>(129, 9, 64);
}

TEST(RmsNorm, BitsDoNotDependOnThreads) {
  Problem<BFloat16, BFloat16> one(301, 1, 100);
  one.run(1);
  for (const int threads : {2, 3}) {
    Problem<BFloat16, BFloat16> more(301, 1, 100);
    more.run(threads);
    EXPECT_TRUE(one.y.same_bits(more.y));
    EXPECT_TRUE(one.dx.same_bits(more.dx));
    EXPECT_TRUE(one.dw.same_bits(more.dw));
  }
}

TEST(RmsNorm, ARowsBitsDoNotDependOnTheOthers) {
  Problem<float, float> few(3, 2, 50);
  Problem<float, float> many(200, 2, 50);
  std::copy_n(many.x.data(), few.x.size(), few.x.data());
  std::copy_n(many.dy.data(), few.dy.size(), few.dy.data());
  few.run(1);
  many.run(1);
  for (std::int64_t t = 0; t < 3; ++t) {
    for (std::int64_t i = t * few.stride; i < t * few.stride + 100; ++i) {
      EXPECT_EQ(few.y[i], many.y[i]);
      EXPECT_EQ(few.dx[i], many.dx[i]);
    }
  }
}

TEST(RmsNorm, WorksInPlaceAndInParts) {
  Problem<BFloat16, BFloat16> p(140, 1, 48);
  p.run(1);
  Problem<BFloat16, BFloat16> q(140, 1, 48);
  ThreadPool pool(2);
  ScratchArea scratch(rms_norm_backward_scratch(q.shape));
  const GradientOutput out{.type = DType::f32, .data = q.dw.data()};
  rms_norm_backward(
      {q.shape, q.x.data(), q.stride, nullptr, q.dy.data(), q.stride, nullptr, 0, &out},
      scratch.span(), pool);
  rms_norm_backward({q.shape, q.x.data(), q.stride, q.weight.data(), q.dy.data(), q.stride,
                     q.dy.data(), q.stride, nullptr},
                    {}, pool);
  rms_norm_forward({q.shape, q.x.data(), q.stride, q.weight.data(), q.x.data(), q.stride}, pool);
  EXPECT_TRUE(p.dw.same_bits(q.dw));
  for (std::int64_t t = 0; t < 140; ++t) {
    for (std::int64_t i = t * p.stride; i < t * p.stride + 48; ++i) {
      ASSERT_EQ(p.dx[i].bits, q.dy[i].bits);
      ASSERT_EQ(p.y[i].bits, q.x[i].bits);
    }
  }
}

TEST(RmsNorm, AccumulatesTheWeightGradient) {
  Problem<float, float> p(10, 1, 37);
  p.run(1);
  Guarded<BFloat16> sum(37);
  testing::fill_normal(sum, 9);
  Guarded<BFloat16> before = sum;
  ThreadPool pool(1);
  ScratchArea scratch(rms_norm_backward_scratch(p.shape));
  const RandomStream stream{.seed = 1, .stream = 2, .step = 3};
  const GradientOutput out{.type = DType::bf16,
                           .data = sum.data(),
                           .accumulate = true,
                           .rounding = &stream,
                           .first_element = 1000};
  rms_norm_backward(
      {p.shape, p.x.data(), p.stride, nullptr, p.dy.data(), p.stride, nullptr, 0, &out},
      scratch.span(), pool);
  for (std::int64_t i = 0; i < 37; ++i) {
    const float exact = static_cast<float>(before[i]) + p.dw[i];
    const auto element = static_cast<std::uint64_t>(1000 + i);
    EXPECT_EQ(sum[i].bits, BFloat16::round_stochastic(exact, stream.bits16(element)).bits);
  }
}

}  // namespace
}  // namespace snug
