#include "backend/cpu/cross_entropy.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "backend/kernel_testing.h"

namespace snug {
namespace {

using testing::Guarded;

struct Problem {
  std::int64_t rows, classes;
  std::int64_t stride = classes + 1;
  Guarded<float> z{rows * stride};
  std::vector<std::int32_t> labels;
  std::vector<SoftmaxState> states;

  Problem(std::int64_t r, std::int64_t c) : rows(r), classes(c) {
    testing::fill_normal(z, 1, 5);
    for (std::int64_t i = 0; i < rows; ++i) {
      labels.push_back(i % 3 == 2 ? -100 : static_cast<std::int32_t>((i * 17 + 5) % classes));
    }
    states.resize(static_cast<std::size_t>(rows));
  }

  LogitsBlock block(std::int64_t first, std::int64_t count) const {
    return {rows, count, first, z.data() + first, stride, labels.data()};
  }

  void see_all(std::int64_t block_size, int threads) {
    ThreadPool pool(threads);
    softmax_start(states.data(), rows);
    for (std::int64_t first = 0; first < classes; first += block_size) {
      softmax_update(block(first, std::min(block_size, classes - first)), states.data(), pool);
    }
  }

  double lse(std::int64_t row) const {
    double sum = 0;
    for (std::int64_t c = 0; c < classes; ++c) sum += std::exp(z.at(row * stride + c));
    return std::log(sum);
  }
};

TEST(CrossEntropy, LossOverBlocksEqualsTheDefinition) {
  for (const auto& [rows, classes] : {std::pair{1, 1}, {4, 7}, {31, 1000}, {3, 50257}}) {
    for (const std::int64_t block_size : {std::int64_t{100000}, std::int64_t{333}}) {
      Problem p(rows, classes);
      p.see_all(block_size, 2);
      double want = 0;
      for (std::int64_t r = 0; r < rows; ++r) {
        const auto label = p.labels[static_cast<std::size_t>(r)];
        if (label < 0) continue;
        want += p.lse(r) - p.z.at(r * p.stride + label);
        EXPECT_NEAR(log_sum_exp(p.states[static_cast<std::size_t>(r)]), p.lse(r), 2e-5);
      }
      const double got = cross_entropy(p.states.data(), p.labels.data(), rows);
      EXPECT_NEAR(got, want, 2e-5 * rows);
    }
  }
}

template <class T>
void expect_gradient(std::int64_t rows, std::int64_t classes, std::int64_t block_size) {
  Problem p(rows, classes);
  p.see_all(block_size, 2);
  Guarded<T> dz(rows * p.stride);
  const float weight = 0.037F;
  ThreadPool pool(2);
  for (std::int64_t first = 0; first < classes; first += block_size) {
    cross_entropy_gradient(p.block(first, std::min(block_size, classes - first)), p.states.data(),
                           weight, testing::dtype_of<T>(), {dz.data() + first, p.stride}, pool);
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    const double lse = p.lse(r);
    const auto label = p.labels[static_cast<std::size_t>(r)];
    for (std::int64_t c = 0; c < classes; ++c) {
      const double prob = std::exp(p.z.at(r * p.stride + c) - lse);
      const double want =
          label < 0 ? 0 : (prob - (c == label ? 1 : 0)) * static_cast<double>(weight);
      const double limit = std::abs(want) * 1.01 * testing::half_ulp<T>() +
                           static_cast<double>(weight) * prob * 2e-5 + 1e-45;
      ASSERT_NEAR(dz.at(r * p.stride + c), want, limit) << r << " " << c;
    }
    ASSERT_TRUE(std::isnan(dz.at(r * p.stride + classes)));
  }
  dz.expect_guards_untouched();
}

TEST(CrossEntropy, GradientEqualsTheDefinition) {
  expect_gradient<float>(5, 7, 100);
  expect_gradient<float>(8, 1001, 400);
  expect_gradient<BFloat16>(8, 1001, 2000);
  expect_gradient<BFloat16>(1, 3, 1);
}

TEST(CrossEntropy, GradientInPlaceAndOnAnyThreads) {
  Problem p(20, 333);
  p.see_all(1000, 1);
  Guarded<float> dz(20 * p.stride);
  ThreadPool one(1);
  cross_entropy_gradient(p.block(0, 333), p.states.data(), 1, DType::f32, {dz.data(), p.stride},
                         one);
  Problem q(20, 333);
  q.see_all(1000, 3);
  ThreadPool three(3);
  cross_entropy_gradient(q.block(0, 333), q.states.data(), 1, DType::f32, {q.z.data(), q.stride},
                         three);
  for (std::int64_t r = 0; r < 20; ++r) {
    for (std::int64_t c = 0; c < 333; ++c) {
      ASSERT_EQ(dz[r * p.stride + c], q.z[r * p.stride + c]);
    }
  }
}

TEST(CrossEntropy, LargeLogitsDoNotOverflow) {
  Problem p(2, 40);
  for (std::int64_t i = 0; i < 80; ++i) p.z[i] = i % 2 == 0 ? 1e4F : -1e4F;
  p.see_all(7, 1);
  EXPECT_TRUE(std::isfinite(cross_entropy(p.states.data(), p.labels.data(), 2)));
}

}  // namespace
}  // namespace snug
