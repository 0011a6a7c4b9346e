#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <ostream>
#include <string>
#include <vector>

#include "backend/attention_testing.h"

namespace snug {
namespace {

using Case = testing::AttentionCase;
template <class T>
using Problem = testing::AttentionProblem<T>;
using testing::Guarded;
using testing::product_isas;

// The definition in double: S x S probabilities, no tiles.
template <class T>
struct Expected {
  std::vector<double> o, lse, grad_q, grad_k, grad_v;

  explicit Expected(const Problem<T>& p)
      : o(size(p.q)), lse(size(p.lse)), grad_q(size(p.q)), grad_k(size(p.k)), grad_v(size(p.v)) {
    for (std::int64_t h = 0; h < p.c.heads; ++h) {
      for (std::int64_t t = 0; t < p.tokens; ++t) one_row(p, h, t);
    }
  }

 private:
  template <class U>
  static std::size_t size(const Guarded<U>& buffer) {
    return static_cast<std::size_t>(buffer.size());
  }

  void one_row(const Problem<T>& p, std::int64_t h, std::int64_t t) {
    const std::int64_t d = p.c.dim;
    const std::int64_t kh = h / (p.c.heads / p.c.kv_heads);
    const double scale = p.shape.scale;
    std::int64_t begin = p.start[static_cast<std::size_t>(t)];
    if (p.c.window > 0) begin = std::max(begin, t - p.c.window + 1);
    auto q = [&](std::int64_t i) { return t * p.q_stride + h * d + i; };
    auto k = [&](std::int64_t j, std::int64_t i) { return j * p.k_stride + kh * d + i; };
    double& log_sum = lse[static_cast<std::size_t>(h * p.tokens + t)];
    log_sum = -INFINITY;
    if (begin > t) return;
    std::vector<double> s;
    for (std::int64_t j = begin; j <= t; ++j) {
      double sum = 0;
      for (std::int64_t i = 0; i < d; ++i) sum += p.q.at(q(i)) * p.k.at(k(j, i));
      s.push_back(sum * scale);
    }
    const double max = *std::max_element(s.begin(), s.end());
    double total = 0;
    for (const double x : s) total += std::exp(x - max);
    log_sum = max + std::log(total);
    double delta = 0;
    for (std::int64_t i = 0; i < d; ++i) {
      double& out = o[static_cast<std::size_t>(q(i))];
      for (std::int64_t j = begin; j <= t; ++j) {
        out += std::exp(s[static_cast<std::size_t>(j - begin)] - log_sum) * p.v.at(k(j, i));
      }
      delta += p.o.at(q(i)) * p.grad_o.at(q(i));  // the stored o is backward's operand
    }
    for (std::int64_t j = begin; j <= t; ++j) {
      const double prob = std::exp(s[static_cast<std::size_t>(j - begin)] - log_sum);
      double grad_p = 0;
      for (std::int64_t i = 0; i < d; ++i) grad_p += p.grad_o.at(q(i)) * p.v.at(k(j, i));
      const double ds = prob * (grad_p - delta) * scale;
      for (std::int64_t i = 0; i < d; ++i) {
        grad_v[static_cast<std::size_t>(k(j, i))] += prob * p.grad_o.at(q(i));
        grad_q[static_cast<std::size_t>(q(i))] += ds * p.k.at(k(j, i));
        grad_k[static_cast<std::size_t>(k(j, i))] += ds * p.q.at(q(i));
      }
    }
  }
};

// Largest error in the [tokens, columns] part of rows that are `stride` apart: what is left of it
// after the rounding of the result to T, relative to the root mean square (at least `floor`).
template <class T>
double error(const Guarded<T>& actual, const std::vector<double>& expected, std::int64_t columns,
             std::int64_t stride, double floor) {
  const auto rows = static_cast<std::int64_t>(expected.size()) / stride;
  double worst = 0;
  double square = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      const double want = expected[static_cast<std::size_t>(r * stride + c)];
      const double got = actual.at(r * stride + c);
      if (!std::isfinite(got)) return INFINITY;
      worst =
          std::max(worst, std::abs(got - want) - 1.01 * testing::half_ulp<T>() * std::abs(want));
      square += want * want;
    }
  }
  return worst / std::max(floor, std::sqrt(square / static_cast<double>(rows * columns)));
}

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"one_token", {1}, 2, 1, 8},
      {"one_document", {150}, 3, 1, 64},
      {"group_of_3", {70, 1, 33}, 9, 3, 16},
      {"odd_dim_20", {65}, 2, 2, 20},
      {"odd_dim_100", {37, 64}, 4, 2, 100},
      {"odd_dim_7", {31}, 3, 3, 7},
      {"dim_256", {66}, 2, 1, 256},
      {"window", {200, 90}, 2, 1, 24, 37},
      {"window_of_1", {70}, 1, 1, 8, 1},
      {"window_beyond", {70}, 4, 2, 8, 1000},
      {"padding_at_end", {40, -13}, 2, 1, 32},
      {"padding_between", {-3, 40, -1, 129, -5}, 4, 1, 32},
      {"group_of_7", {131}, 14, 2, 64},
      {"group_of_100", {70}, 100, 1, 8},
  };
  return all;
}

class Attention : public ::testing::TestWithParam<Case> {};

INSTANTIATE_TEST_SUITE_P(Shapes, Attention, ::testing::ValuesIn(cases()),
                         [](const auto& which) { return which.param.name; });

template <class T>
void expect_right(const Case& c, Isa isa = Isa::avx2) {
  Problem<T> p(c, isa);
  p.forward(2);
  p.backward(2);
  const Expected<T> expected(p);
  const std::int64_t q_columns = c.heads * c.dim;
  const std::int64_t k_columns = c.kv_heads * c.dim;
  // Sums of up to 200 keys times up to 7 heads in f32; single errors add up like a random walk and
  // the largest of many entries is some 8 times the typical one. dp - delta cancels: gradients lose
  // some 3 bits more.
  const double terms = 200 * static_cast<double>(p.shape.group()) + static_cast<double>(c.dim);
  const double limit = 8 * 0x1p-24 * std::sqrt(terms);
  // Products of bf16 round p and ds: each result is a sum of terms with errors of half an ulp.
  const double rounded = isa == Isa::avx2 ? 0 : 8 * testing::half_ulp<BFloat16>();
  EXPECT_LE(error(p.o, expected.o, q_columns, p.q_stride, 0.1), limit + rounded / 2);
  EXPECT_LE(error(p.grad_v, expected.grad_v, k_columns, p.k_stride, 0.1), 8 * limit + rounded);
  EXPECT_LE(error(p.grad_q, expected.grad_q, q_columns, p.q_stride, 0.1), 8 * limit + rounded);
  EXPECT_LE(error(p.grad_k, expected.grad_k, k_columns, p.k_stride, 0.1), 8 * limit + rounded);
  for (std::int64_t i = 0; i < p.lse.size(); ++i) {
    const double want = expected.lse[static_cast<std::size_t>(i)];
    if (std::isinf(want)) {
      EXPECT_EQ(p.lse.at(i), want);
    } else {
      EXPECT_NEAR(p.lse.at(i), want, 1e-5) << i;
    }
  }
  for (const auto* buffer : {&p.o, &p.grad_q, &p.grad_k, &p.grad_v}) {
    buffer->expect_guards_untouched();
  }
  p.lse.expect_guards_untouched();
}

TEST_P(Attention, EqualsTheDefinitionInF32) { expect_right<float>(GetParam()); }
TEST_P(Attention, EqualsTheDefinitionInBf16) {
  for (const Isa isa : product_isas()) {
    SCOPED_TRACE(name_of(isa));
    expect_right<BFloat16>(GetParam(), isa);
  }
}

TEST_P(Attention, DoesNotWriteBetweenRows) {
  Problem<float> p(GetParam());
  p.forward(1);
  p.backward(1);
  for (std::int64_t t = 0; t < p.tokens; ++t) {
    for (std::int64_t i = p.c.heads * p.c.dim; i < p.q_stride; ++i) {
      EXPECT_TRUE(std::isnan(p.o[t * p.q_stride + i]));
      EXPECT_TRUE(std::isnan(p.grad_q[t * p.q_stride + i]));
    }
    for (std::int64_t i = p.c.kv_heads * p.c.dim; i < p.k_stride; ++i) {
      EXPECT_TRUE(std::isnan(p.grad_k[t * p.k_stride + i]));
      EXPECT_TRUE(std::isnan(p.grad_v[t * p.k_stride + i]));
    }
  }
}

TEST_P(Attention, BitsDoNotDependOnThreads) {
  for (const Isa isa : product_isas()) {
    Problem<BFloat16> one(GetParam(), isa);
    one.forward(1);
    one.backward(1);
    for (const int threads : {2, 3}) {
      Problem<BFloat16> more(GetParam(), isa);
      more.forward(threads);
      more.backward(threads);
      EXPECT_TRUE(one.o.same_bits(more.o));
      EXPECT_TRUE(one.lse.same_bits(more.lse));
      EXPECT_TRUE(one.grad_q.same_bits(more.grad_q));
      EXPECT_TRUE(one.grad_k.same_bits(more.grad_k));
      EXPECT_TRUE(one.grad_v.same_bits(more.grad_v));
    }
  }
}

}  // namespace
}  // namespace snug
