#include "backend/cpu/gemm.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/philox_fill.h"
#include "backend/gemm_testing.h"
#include "core/error.h"

namespace snug {
namespace {

class GemmTest : public testing::TestWithParam<std::tuple<Isa, Form, DType>> {
 protected:
  Isa isa() const { return std::get<0>(GetParam()); }
  Case shape(std::int64_t tokens, std::int64_t out, std::int64_t in, std::int64_t slack = 0) const {
    return {std::get<1>(GetParam()), tokens, out, in, std::get<2>(GetParam()), slack};
  }
};

TEST_P(GemmTest, MatchesDoubleLoops) {
  constexpr std::int64_t kOdd[][3] = {{1, 1, 1},    {7, 1, 129},   {1, 127, 7},   {33, 31, 32},
                                      {64, 96, 64}, {129, 70, 65}, {40, 577, 33}, {127, 33, 577}};
  for (const auto [tokens, out, in] : kOdd) {
    for (const std::int64_t slack : {0, 5}) {
      const Case c = shape(tokens, out, in, slack);
      SCOPED_TRACE(fmt::format("T {} N {} K {} slack {}", tokens, out, in, slack));
      const Operands in_ops = operands(c, c.dtype, c.dtype);
      Matrix result(c.m(), c.n(), c.dtype, slack);
      run_gemm(c.m(), c.n(), c.k(), in_ops.view_a, in_ops.view_b, view_of(result), isa(), 2);
      expect_product(c, in_ops, result, nullptr, nullptr);
      EXPECT_TRUE(result.guards_hold());
    }
  }
}

TEST_P(GemmTest, AddsBiasAndAccumulates) {
  for (const DType stored : {DType::f32, DType::bf16}) {
    for (const DType bias_dtype : {DType::f32, DType::bf16}) {
      const Case c = shape(45, 67, 83, 3);
      const Operands in = operands(c, c.dtype, c.dtype);
      const Matrix before = Matrix::random(c.m(), c.n(), stored, 3, 3);
      const Matrix bias = Matrix::random(1, c.n(), bias_dtype, 4);
      Matrix result = before;
      GemmOutput output = view_of(result);
      output.accumulate = true;
      output.bias = bias.data();
      output.bias_dtype = bias_dtype;
      run_gemm(c.m(), c.n(), c.k(), in.view_a, in.view_b, output, isa(), 2);
      expect_product(c, in, result, &before, &bias);
      EXPECT_TRUE(result.guards_hold());
    }
  }
}

TEST_P(GemmTest, GivesTheSameBitsForAnyThreadsAndRows) {
  const Case c = shape(200, 150, 190);
  const Operands in = operands(c, c.dtype, c.dtype);
  Matrix whole(c.m(), c.n(), DType::f32);
  run_gemm(c.m(), c.n(), c.k(), in.view_a, in.view_b, view_of(whole), isa(), 1);
  for (const int threads : {2, 5}) {
    Matrix again(c.m(), c.n(), DType::f32);
    run_gemm(c.m(), c.n(), c.k(), in.view_a, in.view_b, view_of(again), isa(), threads);
    EXPECT_EQ(again.bytes(), whole.bytes()) << threads << " threads";
  }
  // Some rows and columns alone, from inside the matrices.
  constexpr std::int64_t kFirstRow = 13;
  constexpr std::int64_t kFirstCol = 29;
  const auto skip = [](GemmMatrix matrix, std::int64_t outers) {
    const std::int64_t elements = outers * (matrix.k_contiguous ? matrix.stride : 1);
    matrix.data = static_cast<const std::byte*>(matrix.data) + elements * size_of(matrix.dtype);
    return matrix;
  };
  for (const std::int64_t rows : {1, 7, 50}) {
    for (const std::int64_t cols : {1, 40}) {
      Matrix part(rows, cols, DType::f32);
      run_gemm(rows, cols, c.k(), skip(in.view_a, kFirstRow), skip(in.view_b, kFirstCol),
               view_of(part), isa(), 2);
      for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t j = 0; j < cols; ++j) {
          ASSERT_EQ(part.at(i, j), whole.at(kFirstRow + i, kFirstCol + j));
        }
      }
    }
  }
}

// k longer than a chunk: sums pass through scratch between chunks.
TEST_P(GemmTest, SumsALongK) {
  constexpr std::int64_t kLength = 6001;
  Case c = shape(5, 41, 37);
  (c.form == Form::forward ? c.in : c.form == Form::dx ? c.out : c.tokens) = kLength;
  const Operands in = operands(c, c.dtype, c.dtype);
  Matrix result(c.m(), c.n(), c.dtype);
  run_gemm(c.m(), c.n(), c.k(), in.view_a, in.view_b, view_of(result), isa(), 3);
  expect_product(c, in, result, nullptr, nullptr);
}

TEST_P(GemmTest, WritesZerosForAnEmptySum) {
  Case c = shape(9, 11, 13);
  const Operands in = operands(c, c.dtype, c.dtype);
  Matrix result(c.m(), c.n(), c.dtype, 2);
  run_gemm(c.m(), c.n(), 0, in.view_a, in.view_b, view_of(result), isa(), 2);
  for (std::int64_t i = 0; i < c.m(); ++i) {
    for (std::int64_t j = 0; j < c.n(); ++j) ASSERT_EQ(result.at(i, j), 0.0F);
  }
  EXPECT_TRUE(result.guards_hold());
}

TEST_P(GemmTest, RoundsStochastically) {
  const Case c = shape(37, 50, 600);
  const Operands in = operands(c, c.dtype, c.dtype);
  const Matrix before = Matrix::random(c.m(), c.n(), DType::bf16, 3, 6);
  Matrix product(c.m(), c.n(), DType::f32);
  run_gemm(c.m(), c.n(), c.k(), in.view_a, in.view_b, view_of(product), isa(), 1);
  const StochasticRounding rounding{
      .random = {.seed = 11, .stream = stream_hash("gradient"), .step = 4},
      .first = 1003,
      .row_elements = static_cast<std::uint64_t>(c.n()) + 1};
  Matrix result = before;
  GemmOutput output = view_of(result);
  output.accumulate = true;
  output.rounding = rounding;
  run_gemm(c.m(), c.n(), c.k(), in.view_a, in.view_b, output, isa(), 2);
  for (std::int64_t i = 0; i < c.m(); ++i) {
    for (std::int64_t j = 0; j < c.n(); ++j) {
      const std::uint64_t index = 1003 + static_cast<std::uint64_t>(i * (c.n() + 1) + j);
      const float sum = product.at(i, j) + before.at(i, j);
      const BFloat16 expected = BFloat16::round_stochastic(sum, rounding.random.bits16(index));
      ASSERT_EQ(result.at(i, j), static_cast<float>(expected)) << i << ' ' << j;
    }
  }
  EXPECT_TRUE(result.guards_hold());
}

// Pages with an unreadable one behind: what is placed at their end cannot be overrun unnoticed.
class FencedBytes {
 public:
  explicit FencedBytes(std::size_t bytes)
      : pages_((bytes + kPage - 1) / kPage * kPage),
        start_(static_cast<std::byte*>(mmap(nullptr, pages_ + kPage, PROT_READ | PROT_WRITE,
                                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))),
        data_(start_ + pages_ - bytes) {
    mprotect(start_ + pages_, kPage, PROT_NONE);
  }
  ~FencedBytes() { munmap(start_, pages_ + kPage); }
  FencedBytes(const FencedBytes&) = delete;
  FencedBytes& operator=(const FencedBytes&) = delete;
  std::byte* data() { return data_; }

 private:
  static constexpr std::size_t kPage = 4096;
  std::size_t pages_;
  std::byte* start_;
  std::byte* data_;
};

TEST_P(GemmTest, TouchesNothingBeyondTheOperands) {
  const Case c = shape(35, 41, 67);
  const std::int64_t element = size_of(c.dtype);
  const auto fenced = [&](const Matrix& matrix, std::int64_t rows, std::int64_t cols) {
    const auto bytes = static_cast<std::size_t>(rows * cols * element);
    auto copy = std::make_unique<FencedBytes>(bytes);
    std::memcpy(copy->data(), matrix.data(), bytes);
    return copy;
  };
  Operands in = operands(c, c.dtype, c.dtype);
  const auto a = fenced(in.a, c.m(), c.k());
  const auto b = fenced(in.b, c.n(), c.k());
  const auto out = fenced(Matrix(c.m(), c.n(), c.dtype), c.m(), c.n());
  in.view_a.data = a->data();
  in.view_b.data = b->data();
  GemmOutput output;
  output.data = out->data();
  output.dtype = c.dtype;
  output.stride = c.n();
  run_gemm(c.m(), c.n(), c.k(), in.view_a, in.view_b, output, isa(), 1);
  Matrix result(c.m(), c.n(), c.dtype);
  std::memcpy(result.data(), out->data(), static_cast<std::size_t>(c.m() * c.n() * element));
  expect_product(c, in, result, nullptr, nullptr);
}

std::string name_of_parameter(const testing::TestParamInfo<GemmTest::ParamType>& info) {
  const auto [isa, form, dtype] = info.param;
  const char* name = form == Form::forward ? "forward" : form == Form::dx ? "dx" : "dw";
  return fmt::format("{}_{}_{}", name_of(isa), name, name_of(dtype));
}

INSTANTIATE_TEST_SUITE_P(Isas, GemmTest,
                         testing::Combine(testing::ValuesIn(testable_isas()),
                                          testing::Values(Form::forward, Form::dx, Form::dw),
                                          testing::Values(DType::f32, DType::bf16)),
                         name_of_parameter);

TEST(Gemm, MixesDtypesInFp32) {
  for (const auto& [a, b] :
       {std::pair{DType::f32, DType::bf16}, std::pair{DType::bf16, DType::f32}}) {
    const Case c{Form::dx, 21, 45, 38, DType::f32};
    const Operands in = operands(c, a, b);
    Matrix result(c.m(), c.n(), DType::f32);
    run_gemm(c.m(), c.n(), c.k(), in.view_a, in.view_b, view_of(result), machine_isa(), 2);
    expect_product(c, in, result, nullptr, nullptr);
  }
}

TEST(Gemm, KeepsInfinitiesInTheirRows) {
  const Case c{Form::forward, 5, 40, 33, DType::bf16};
  Operands in = operands(c, c.dtype, c.dtype);
  in.a.set(2, 32, INFINITY);
  Matrix result(c.m(), c.n(), DType::bf16);
  run_gemm(c.m(), c.n(), c.k(), in.view_a, in.view_b, view_of(result), machine_isa(), 1);
  for (std::int64_t i = 0; i < c.m(); ++i) {
    for (std::int64_t j = 0; j < c.n(); ++j) {
      EXPECT_EQ(std::isfinite(result.at(i, j)), i != 2) << i << ' ' << j;
    }
  }
}

TEST(Gemm, GrantsNeverShrinkWithTheShape) {
  for (const Isa isa : {Isa::avx2, Isa::avx512, Isa::amx}) {
    for (const bool rounding : {false, true}) {
      const auto grant = [&](std::int64_t m, std::int64_t n, std::int64_t k) {
        return gemm_scratch({m, n, k, DType::bf16, DType::bf16, false, rounding}, isa, 2);
      };
      constexpr std::int64_t kSizes[] = {0, 1, 31, 64, 100, 257, 576, 1000, 2721, 5000, 49152};
      for (std::size_t i = 1; i < std::size(kSizes); ++i) {
        for (const std::int64_t other : {64, 576, 4864}) {
          EXPECT_LE(grant(kSizes[i - 1], other, 2048), grant(kSizes[i], other, 2048));
          EXPECT_LE(grant(other, kSizes[i - 1], 2048), grant(other, kSizes[i], 2048));
          EXPECT_LE(grant(576, other, kSizes[i - 1]), grant(576, other, kSizes[i]))
              << kSizes[i] << ' ' << other;
        }
      }
    }
  }
}

TEST(Gemm, RefusesTooLittleScratch) {
  const Case c{Form::forward, 5, 6, 7, DType::f32};
  const Operands in = operands(c, c.dtype, c.dtype);
  Matrix result(c.m(), c.n(), DType::f32);
  ThreadPool pool(1);
  EXPECT_THROW(
      gemm(c.m(), c.n(), c.k(), in.view_a, in.view_b, view_of(result), machine_isa(), {}, pool),
      InternalError);
}

TEST(SmallForward, MatchesDoubleLoopsAndKeepsRowBits) {
  machine_isa();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const auto& [out, in] : {std::pair{1, 1}, std::pair{7, 129}, std::pair{577, 100}}) {
      const Case c{Form::forward, kSmallRows, out, in, dtype, 3};
      const Operands ops = operands(c, dtype, dtype);
      const Matrix bias = Matrix::random(1, out, dtype, 4);
      Matrix whole(c.m(), c.n(), DType::f32, 2);
      for (std::int64_t rows = kSmallRows; rows >= 1; --rows) {
        ThreadPool pool(static_cast<int>(1 + rows % 3));
        Matrix result(rows, c.n(), DType::f32, 2);
        GemmOutput output = view_of(result);
        output.bias = bias.data();
        output.bias_dtype = dtype;
        small_forward(rows, c.n(), c.k(), ops.view_a, ops.view_b, output, pool);
        EXPECT_TRUE(result.guards_hold());
        if (rows == kSmallRows) {
          expect_product(c, ops, result, nullptr, &bias);
          whole = result;
        }
        for (std::int64_t i = 0; i < rows; ++i) {
          for (std::int64_t j = 0; j < c.n(); ++j) ASSERT_EQ(result.at(i, j), whole.at(i, j));
        }
      }
    }
  }
}

TEST(PhiloxFill, MatchesTheScalarDefinition) {
  machine_isa();
  const RandomStream random{.seed = 3, .stream = stream_hash("x"), .step = 9, .part = 2};
  constexpr std::uint64_t kCarry = std::uint64_t{1} << 35;  // block index 2^32
  for (const std::uint64_t first :
       {std::uint64_t{0}, std::uint64_t{5}, kCarry - 300, kCarry * 7 + 3}) {
    for (const std::int64_t count : {0, 1, 8, 129, 700}) {
      std::vector<std::uint16_t> bits(static_cast<std::size_t>(count) + 1, 0xABCD);
      fill_bits16(random, first, count, bits.data());
      for (std::int64_t i = 0; i < count; ++i) {
        ASSERT_EQ(bits[static_cast<std::size_t>(i)],
                  random.bits16(first + static_cast<std::uint64_t>(i)));
      }
      EXPECT_EQ(bits.back(), 0xABCD);
    }
  }
}

}  // namespace
}  // namespace snug
