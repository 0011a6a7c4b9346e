#include "backend/cpu/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>

#include "backend/cpu/swiglu.h"
#include "backend/kernel_testing.h"

namespace snug {
namespace {

using testing::Guarded;

template <class T>
struct Problem {
  std::int64_t rows, columns;
  std::int64_t stride = columns + 3;
  DType type = testing::dtype_of<T>();
  Guarded<T> a{rows * stride}, b{rows * stride}, c{rows * stride}, y{rows * stride},
      z{rows * stride};

  Problem(std::int64_t r, std::int64_t n) : rows(r), columns(n) {
    testing::fill_normal(a, 1, 3);
    testing::fill_normal(b, 2);
    testing::fill_normal(c, 3);
  }
  RowsIn in(const Guarded<T>& buffer) const { return {buffer.data(), stride}; }
  RowsOut out(Guarded<T>& buffer) const { return {buffer.data(), stride}; }

  template <class Expected>
  void expect(const Guarded<T>& got, const Expected& expected, double ulps = 1) const {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t i = r * stride; i < r * stride + columns; ++i) {
        const double want = expected(i);
        const double limit = std::abs(want) * (testing::half_ulp<T>() * 1.001 + ulps * 0x1p-23);
        ASSERT_NEAR(got.at(i), want, limit + 1e-37) << r << " " << i;
      }
      for (std::int64_t i = r * stride + columns; i < (r + 1) * stride; ++i) {
        ASSERT_TRUE(std::isnan(got.at(i)));
      }
    }
    got.expect_guards_untouched();
  }
};

template <class T>
class ElementwiseOf : public ::testing::Test {};
using Types = ::testing::Types<float, BFloat16>;
TYPED_TEST_SUITE(ElementwiseOf, Types, );

TYPED_TEST(ElementwiseOf, AddScaleAndCopy) {
  ThreadPool pool(2);
  for (const auto& [rows, columns] : {std::pair{1, 1}, {7, 19}, {300, 64}, {2, 40000}}) {
    Problem<TypeParam> p(rows, columns);
    const Elementwise shape{p.type, rows, columns};
    add(shape, p.in(p.a), p.in(p.b), p.out(p.y), pool);
    p.expect(p.y, [&](std::int64_t i) { return p.a.at(i) + p.b.at(i); });
    scale(shape, p.in(p.a), 0.3F, p.out(p.y), pool);
    p.expect(p.y, [&](std::int64_t i) { return p.a.at(i) * static_cast<double>(0.3F); });
    copy_rows(p.type, rows, columns, p.in(p.a), p.out(p.y), pool);
    p.expect(p.y, [&](std::int64_t i) { return p.a.at(i); }, 0);
  }
}

TYPED_TEST(ElementwiseOf, Casts) {
  ThreadPool pool(2);
  Problem<TypeParam> p(13, 37);
  Guarded<float> wide(481);
  cast(p.type, DType::f32, 13, 37, p.in(p.a), {wide.data(), 37}, pool);
  for (std::int64_t r = 0; r < 13; ++r) {
    for (std::int64_t i = 0; i < 37; ++i) ASSERT_EQ(wide.at(r * 37 + i), p.a.at(r * p.stride + i));
  }
  testing::fill_normal(wide, 5);
  cast(DType::f32, p.type, 13, 37, {wide.data(), 37}, p.out(p.y), pool);
  p.expect(p.y, [&](std::int64_t i) { return wide.at(i / p.stride * 37 + i % p.stride); }, 0);
}

double silu(double g) { return g / (1 + std::exp(-g)); }
double silu_slope(double g) {
  const double s = 1 / (1 + std::exp(-g));
  return s * (1 + g * (1 - s));
}

TYPED_TEST(ElementwiseOf, SiluMulAndItsGradient) {
  ThreadPool pool(2);
  for (const auto& [rows, columns] : {std::pair{1, 1}, {5, 19}, {33, 1536}}) {
    Problem<TypeParam> p(rows, columns);
    p.a[0] = testing::rounded<TypeParam>(-95);  // e^-g overflows
    silu_mul({p.type, rows, columns, p.in(p.a), p.in(p.b), p.out(p.y)}, pool);
    p.expect(p.y, [&](std::int64_t i) { return silu(p.a.at(i)) * p.b.at(i); }, 6);
    silu_mul_grad({p.type, rows, columns, p.in(p.a), p.in(p.b), p.in(p.c), p.out(p.y), p.out(p.z)},
                  pool);
    p.expect(p.z, [&](std::int64_t i) { return p.c.at(i) * silu(p.a.at(i)); }, 6);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t i = r * p.stride; i < r * p.stride + columns; ++i) {
        const double factor = p.c.at(i) * p.b.at(i);
        const double want = factor * silu_slope(p.a.at(i));
        // The slope crosses zero: its absolute error is that of its terms.
        const double limit = std::abs(want) * 1.01 * testing::half_ulp<TypeParam>() +
                             std::abs(factor) * (1 + std::abs(p.a.at(i))) * 4 * 0x1p-24;
        ASSERT_NEAR(p.y.at(i), want, limit);
      }
    }
  }
}

TYPED_TEST(ElementwiseOf, WorksInPlace) {
  ThreadPool pool(2);
  const std::int64_t rows = 9;
  const std::int64_t columns = 83;
  Problem<TypeParam> p(rows, columns);
  silu_mul_grad({p.type, rows, columns, p.in(p.a), p.in(p.b), p.in(p.c), p.out(p.y), p.out(p.z)},
                pool);
  Problem<TypeParam> q(rows, columns);
  silu_mul_grad({q.type, rows, columns, q.in(q.a), q.in(q.b), q.in(q.c), q.out(q.a), q.out(q.b)},
                pool);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = r * p.stride; i < r * p.stride + columns; ++i) {
      ASSERT_EQ(p.y.at(i), q.a.at(i));
      ASSERT_EQ(p.z.at(i), q.b.at(i));
    }
  }
  Problem<TypeParam> s(rows, columns);
  const Elementwise shape{s.type, rows, columns};
  add(shape, s.in(s.a), s.in(s.b), s.out(s.y), pool);
  add(shape, s.in(s.a), s.in(s.b), s.out(s.a), pool);
  for (std::int64_t i = 0; i < columns; ++i) ASSERT_EQ(s.y.at(i), s.a.at(i));
}

}  // namespace
}  // namespace snug
