#include "backend/cpu/reduce.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "backend/kernel_testing.h"

namespace snug {
namespace {

using testing::Guarded;
using testing::ScratchArea;

template <class T>
double squares(const Guarded<T>& x, int threads) {
  ThreadPool pool(threads);
  ScratchArea scratch(sum_of_squares_scratch(x.size()));
  return sum_of_squares(testing::dtype_of<T>(), x.data(), x.size(), scratch.span(), pool);
}

template <class T>
void expect_column_sums(std::int64_t rows, std::int64_t columns) {
  const std::int64_t stride = columns + 2;
  Guarded<T> x(rows * stride);
  testing::fill_normal(x, 1);
  Guarded<float> first(columns);
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    Guarded<float> sums(columns);
    column_sum(testing::dtype_of<T>(), rows, columns, {x.data(), stride},
               {.type = DType::f32, .data = sums.data()}, pool);
    for (std::int64_t c = 0; c < columns; ++c) {
      double want = 0;
      for (std::int64_t r = 0; r < rows; ++r) want += x.at(r * stride + c);
      ASSERT_NEAR(sums.at(c), want, 0x1p-24 * 8 * static_cast<double>(rows));
    }
    sums.expect_guards_untouched();
    if (threads == 1) {
      first = sums;
    } else {
      EXPECT_TRUE(first.same_bits(sums));
    }
  }
}

TEST(ColumnSum, EqualsTheDefinition) {
  expect_column_sums<float>(1, 1);
  expect_column_sums<float>(130, 77);
  expect_column_sums<BFloat16>(33, 960);
}

TEST(ColumnSum, Accumulates) {
  Guarded<BFloat16> x(15);
  for (std::int64_t i = 0; i < 15; ++i) x[i] = BFloat16(1.0F);
  Guarded<float> sums(5);
  for (std::int64_t i = 0; i < 5; ++i) sums[i] = 10;
  ThreadPool pool(1);
  column_sum(DType::bf16, 3, 5, {x.data(), 5},
             {.type = DType::f32, .data = sums.data(), .accumulate = true}, pool);
  for (std::int64_t i = 0; i < 5; ++i) EXPECT_EQ(sums[i], 13);
}

template <class T>
void expect_squares(std::int64_t count) {
  Guarded<T> x(count);
  testing::fill_normal(x, 1);
  double want = 0;
  for (std::int64_t i = 0; i < count; ++i) want += x.at(i) * x.at(i);
  const double got = squares(x, 2);
  EXPECT_NEAR(got, want, want * 0x1p-24 * std::sqrt(16384.0));
  EXPECT_EQ(got, squares(x, 1));
  EXPECT_EQ(got, squares(x, 3));
}

TEST(SumOfSquares, EqualsTheDefinition) {
  for (const std::int64_t count : {1, 15, 16384, 16385, 100003}) {
    expect_squares<float>(count);
    expect_squares<BFloat16>(count);
  }
  EXPECT_EQ(squares(Guarded<float>(0), 1), 0);
}

TEST(SumOfSquares, ShowsWhatIsNotFinite) {
  Guarded<BFloat16> x(40000);
  testing::fill_normal(x, 1);
  x[39999] = BFloat16(std::numeric_limits<float>::infinity());
  EXPECT_FALSE(std::isfinite(squares(x, 2)));
  x[39999] = BFloat16(NAN);
  EXPECT_TRUE(std::isnan(squares(x, 2)));
}

}  // namespace
}  // namespace snug
