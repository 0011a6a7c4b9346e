#include "backend/cpu/embedding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "backend/kernel_testing.h"
#include "core/error.h"

namespace snug {
namespace {

using testing::Guarded;
using testing::ScratchArea;

template <class T>
struct Problem {
  EmbeddingShape shape;
  std::vector<std::int32_t> ids;
  Guarded<T> dy{shape.tokens * shape.width};

  Problem(std::int64_t tokens, std::int64_t vocabulary, std::int64_t width)
      : shape{testing::dtype_of<T>(), tokens, vocabulary, width} {
    std::mt19937 random(3);
    for (std::int64_t t = 0; t < tokens; ++t) {
      // Half of the tokens share an id, as padding does.
      ids.push_back(
          t % 2 == 0 ? 4 : static_cast<std::int32_t>(random() % static_cast<unsigned>(vocabulary)));
    }
    testing::fill_normal(dy, 1);
  }

  void run(const GradientOutput& out, int threads) const {
    ThreadPool pool(threads);
    ScratchArea scratch(embedding_gradient_scratch(shape, threads));
    embedding_gradient(shape, {dy.data(), shape.width}, ids.data(), out, scratch.span(), pool);
  }

  std::vector<double> sums() const {
    std::vector<double> result(static_cast<std::size_t>(shape.vocabulary * shape.width));
    for (std::int64_t t = 0; t < shape.tokens; ++t) {
      for (std::int64_t i = 0; i < shape.width; ++i) {
        const std::int64_t row = ids[static_cast<std::size_t>(t)];
        result[static_cast<std::size_t>(row * shape.width + i)] += dy.at(t * shape.width + i);
      }
    }
    return result;
  }
};

TEST(Embedding, GathersRows) {
  Guarded<BFloat16> table(99);
  testing::fill_normal(table, 1);
  const std::vector<std::int32_t> ids = {10, 0, 3, 3, 7};
  Guarded<BFloat16> y(60);
  ThreadPool pool(2);
  embedding({DType::bf16, 5, 11, 9}, {table.data(), 9}, ids.data(), {y.data(), 12}, pool);
  for (std::int64_t t = 0; t < 5; ++t) {
    for (std::int64_t i = 0; i < 9; ++i) {
      const std::int64_t id = ids[static_cast<std::size_t>(t)];
      EXPECT_EQ(y[t * 12 + i].bits, table[id * 9 + i].bits);
    }
    EXPECT_TRUE(std::isnan(y.at(t * 12 + 9)));
  }
  y.expect_guards_untouched();
}

TEST(Embedding, RefusesAForeignId) {
  Guarded<float> table(6);
  Guarded<float> y(2);
  ThreadPool pool(1);
  for (const std::int32_t id : {-1, 3}) {
    EXPECT_THROW(embedding({DType::f32, 1, 3, 2}, {table.data(), 2}, &id, {y.data(), 2}, pool),
                 InternalError);
  }
}

template <class T>
void expect_sums(std::int64_t tokens, std::int64_t vocabulary, std::int64_t width) {
  Problem<T> p(tokens, vocabulary, width);
  Guarded<float> dw(vocabulary * width);
  p.run({.type = DType::f32, .data = dw.data()}, 2);
  const auto want = p.sums();
  for (std::int64_t i = 0; i < dw.size(); ++i) {
    const double limit = 0x1p-24 * 8 * static_cast<double>(tokens);
    ASSERT_NEAR(dw.at(i), want[static_cast<std::size_t>(i)], limit);
    if (want[static_cast<std::size_t>(i)] == 0) {
      ASSERT_EQ(dw.at(i), 0);
    }
  }
  dw.expect_guards_untouched();
}

TEST(EmbeddingGradient, SumsTheRowsOfAnId) {
  expect_sums<float>(1, 5, 7);
  expect_sums<float>(200, 300, 33);
  expect_sums<BFloat16>(64, 5, 16);
  expect_sums<BFloat16>(101, 7000, 40);
}

TEST(EmbeddingGradient, BitsDoNotDependOnThreads) {
  const Problem<BFloat16> p(300, 5000, 64);
  Guarded<BFloat16> one(320000);
  p.run({.type = DType::bf16, .data = one.data()}, 1);
  for (const int threads : {2, 3}) {
    Guarded<BFloat16> more(320000);
    p.run({.type = DType::bf16, .data = more.data()}, threads);
    EXPECT_TRUE(one.same_bits(more));
  }
}

TEST(EmbeddingGradient, AccumulatesWithStochasticRounding) {
  const Problem<BFloat16> p(50, 40, 20);
  Guarded<float> sums(800);
  p.run({.type = DType::f32, .data = sums.data()}, 1);
  Guarded<BFloat16> dw(800);
  testing::fill_normal(dw, 4);
  const Guarded<BFloat16> before = dw;
  const RandomStream stream{.seed = 5, .stream = 6, .step = 7};
  p.run({.type = DType::bf16, .data = dw.data(), .accumulate = true, .rounding = &stream}, 2);
  std::vector<bool> touched(40);
  for (const std::int32_t id : p.ids) touched[static_cast<std::size_t>(id)] = true;
  for (std::int64_t i = 0; i < dw.size(); ++i) {
    const float sum = static_cast<float>(before[i]) + sums[i];
    const auto want =
        touched[static_cast<std::size_t>(i / 20)]
            ? BFloat16::round_stochastic(sum, stream.bits16(static_cast<std::uint64_t>(i)))
            : before[i];
    ASSERT_EQ(dw[i].bits, want.bits) << i;
  }
  dw.expect_guards_untouched();
}

}  // namespace
}  // namespace snug
