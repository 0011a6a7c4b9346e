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
#include "core/error.h"

namespace snug {
namespace {

// SNUG_TEST_ISA caps the whole process: Highway's dispatch as well.
Isa machine_isa() {
  static const Isa isa = [] {
    Isa best = detect_isa();
    if (const char* cap = std::getenv("SNUG_TEST_ISA")) {
      best = std::min(best, isa_from_name(cap).value());
      cap_isa(best);
    }
    return best;
  }();
  return isa;
}

// Isa::avx2 needs a process of its own (cap_isa): SNUG_TEST_ISA=avx2.
std::vector<Isa> testable_isas() {
  if (machine_isa() == Isa::avx2) return {Isa::avx2};
  std::vector<Isa> isas;
  for (const Isa isa : {Isa::avx512, Isa::avx512_bf16, Isa::amx}) {
    if (isa <= machine_isa()) isas.push_back(isa);
  }
  return isas;
}

constexpr std::byte kGuard{0xA5};

// A row-major matrix with `slack` guarded elements behind each row and a guard on both ends.
class Matrix {
 public:
  Matrix(std::int64_t rows, std::int64_t cols, DType dtype, std::int64_t slack = 0)
      : rows_(rows), cols_(cols), stride_(cols + slack), dtype_(dtype) {
    bytes_.assign(static_cast<std::size_t>((rows * stride_ + 2 * kEnds) * size_of(dtype)), kGuard);
  }

  static Matrix random(std::int64_t rows, std::int64_t cols, DType dtype, unsigned seed,
                       std::int64_t slack = 0) {
    Matrix matrix(rows, cols, dtype, slack);
    std::mt19937 generator(seed);
    std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < cols; ++c) matrix.set(r, c, uniform(generator));
    }
    return matrix;
  }

  std::int64_t stride() const { return stride_; }
  DType dtype() const { return dtype_; }
  std::byte* data() { return bytes_.data() + kEnds * size_of(dtype_); }
  const std::byte* data() const { return bytes_.data() + kEnds * size_of(dtype_); }
  const std::vector<std::byte>& bytes() const { return bytes_; }

  float at(std::int64_t r, std::int64_t c) const {
    const std::int64_t i = r * stride_ + c;
    if (dtype_ == DType::f32) return reinterpret_cast<const float*>(data())[i];
    return static_cast<float>(reinterpret_cast<const BFloat16*>(data())[i]);
  }
  void set(std::int64_t r, std::int64_t c, float value) {
    const std::int64_t i = r * stride_ + c;
    if (dtype_ == DType::f32) {
      reinterpret_cast<float*>(data())[i] = value;
    } else {
      reinterpret_cast<BFloat16*>(data())[i] = BFloat16(value);
    }
  }

  // Whether every byte outside the rows is untouched.
  bool guards_hold() const {
    for (std::size_t i = 0; i < bytes_.size(); ++i) {
      const std::int64_t element = static_cast<std::int64_t>(i) / size_of(dtype_) - kEnds;
      const bool inside = element >= 0 && element < rows_ * stride_ && element % stride_ < cols_;
      if (!inside && bytes_[i] != kGuard) return false;
    }
    return true;
  }

 private:
  static constexpr std::int64_t kEnds = 64;
  std::int64_t rows_;
  std::int64_t cols_;
  std::int64_t stride_;
  DType dtype_;
  std::vector<std::byte> bytes_;
};

enum class Form { forward, dx, dw };

// A product of a linear layer: T tokens, N outputs, K inputs.
struct Case {
  Form form;
  std::int64_t tokens;
  std::int64_t out;
  std::int64_t in;
  DType dtype;
  std::int64_t slack = 0;

  std::int64_t m() const { return form == Form::dw ? out : tokens; }
  std::int64_t n() const { return form == Form::forward ? out : in; }
  std::int64_t k() const { return form == Form::forward ? in : form == Form::dx ? out : tokens; }
};

struct Operands {
  Matrix a;
  Matrix b;
  GemmMatrix view_a;
  GemmMatrix view_b;

  float a_at(std::int64_t i, std::int64_t k) const {
    return view_a.k_contiguous ? a.at(i, k) : a.at(k, i);
  }
  float b_at(std::int64_t j, std::int64_t k) const {
    return view_b.k_contiguous ? b.at(j, k) : b.at(k, j);
  }
};

Operands operands(const Case& c, DType a_dtype, DType b_dtype) {
  const bool a_along_k = c.form != Form::dw;
  const bool b_along_k = c.form == Form::forward;
  Matrix a =
      Matrix::random(a_along_k ? c.m() : c.k(), a_along_k ? c.k() : c.m(), a_dtype, 1, c.slack);
  Matrix b =
      Matrix::random(b_along_k ? c.n() : c.k(), b_along_k ? c.k() : c.n(), b_dtype, 2, c.slack);
  Operands result{std::move(a), std::move(b), {}, {}};
  result.view_a = {result.a.data(), a_dtype, result.a.stride(), a_along_k};
  result.view_b = {result.b.data(), b_dtype, result.b.stride(), b_along_k};
  return result;
}

GemmOutput view_of(Matrix& matrix) {
  GemmOutput output;
  output.data = matrix.data();
  output.dtype = matrix.dtype();
  output.stride = matrix.stride();
  return output;
}

struct alignas(64) Line {
  std::array<std::byte, 64> bytes;
};

void run_gemm(std::int64_t m, std::int64_t n, std::int64_t k, const GemmMatrix& a,
              const GemmMatrix& b, const GemmOutput& output, Isa isa, int threads) {
  const GemmShape shape{m, n, k, a.dtype, b.dtype, a.k_contiguous, output.rounding.has_value()};
  const std::int64_t bytes = gemm_scratch(shape, isa, threads);
  std::vector<Line> scratch(static_cast<std::size_t>(bytes / 64 + 1));
  ASSERT_EQ(bytes % 64, 0);
  scratch.back().bytes.fill(kGuard);
  auto* const start = reinterpret_cast<std::byte*>(scratch.data());
  ThreadPool pool(threads);
  gemm(m, n, k, a, b, output, isa, {start, static_cast<std::size_t>(bytes)}, pool);
  for (const std::byte byte : scratch.back().bytes) ASSERT_EQ(byte, kGuard) << "scratch overrun";
}

// |error| of a sum of k products of uniform values in [-1, 1] and of storing it. Partial sums stay
// within about sqrt(k), each of the k additions errs by half an ulp of one, and errors add like
// sqrt(k): eps k. Some machines add pairs of k first: twice that.
double tolerance(std::int64_t k, double size, DType stored) {
  const double eps = std::ldexp(1.0, -24);
  const double sum = 2 * eps * static_cast<double>(k + 2);
  return sum + (stored == DType::bf16 ? std::ldexp(1.0, -8) : eps) * (size + sum);
}

void expect_product(const Case& c, const Operands& in, const Matrix& out, const Matrix* before,
                    const Matrix* bias) {
  for (std::int64_t i = 0; i < c.m(); ++i) {
    for (std::int64_t j = 0; j < c.n(); ++j) {
      double sum = 0;
      for (std::int64_t k = 0; k < c.k(); ++k) {
        sum += static_cast<double>(in.a_at(i, k)) * static_cast<double>(in.b_at(j, k));
      }
      if (before != nullptr) sum += static_cast<double>(before->at(i, j));
      if (bias != nullptr) sum += static_cast<double>(bias->at(0, j));
      ASSERT_NEAR(out.at(i, j), sum, tolerance(c.k(), std::abs(sum), out.dtype()))
          << "row " << i << " column " << j;
    }
  }
}

class GemmTest : public testing::TestWithParam<std::tuple<Isa, Form, DType>> {
 protected:
  Isa isa() const { return std::get<0>(GetParam()); }
  Case shape(std::int64_t tokens, std::int64_t out, std::int64_t in, std::int64_t slack = 0) const {
    return {std::get<1>(GetParam()), tokens, out, in, std::get<2>(GetParam()), slack};
  }
};

TEST_P(GemmTest, MatchesDoubleLoops) {
  constexpr std::int64_t odd[][3] = {{1, 1, 1},    {7, 1, 129},   {1, 127, 7},   {33, 31, 32},
                                     {64, 96, 64}, {129, 70, 65}, {40, 577, 33}, {127, 33, 577}};
  for (const auto [tokens, out, in] : odd) {
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
  constexpr std::int64_t first_row = 13;
  constexpr std::int64_t first_col = 29;
  const auto skip = [](GemmMatrix matrix, std::int64_t outers) {
    const std::int64_t elements = outers * (matrix.k_contiguous ? matrix.stride : 1);
    matrix.data = static_cast<const std::byte*>(matrix.data) + elements * size_of(matrix.dtype);
    return matrix;
  };
  for (const std::int64_t rows : {1, 7, 50}) {
    for (const std::int64_t cols : {1, 40}) {
      Matrix part(rows, cols, DType::f32);
      run_gemm(rows, cols, c.k(), skip(in.view_a, first_row), skip(in.view_b, first_col),
               view_of(part), isa(), 2);
      for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t j = 0; j < cols; ++j) {
          ASSERT_EQ(part.at(i, j), whole.at(first_row + i, first_col + j));
        }
      }
    }
  }
}

// k longer than a chunk: sums pass through scratch between chunks.
TEST_P(GemmTest, SumsALongK) {
  constexpr std::int64_t length = 6001;
  Case c = shape(5, 41, 37);
  (c.form == Form::forward ? c.in : c.form == Form::dx ? c.out : c.tokens) = length;
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
      constexpr std::int64_t sizes[] = {0, 1, 31, 64, 100, 257, 576, 1000, 2721, 5000, 49152};
      for (std::size_t i = 1; i < std::size(sizes); ++i) {
        for (const std::int64_t other : {64, 576, 4864}) {
          EXPECT_LE(grant(sizes[i - 1], other, 2048), grant(sizes[i], other, 2048));
          EXPECT_LE(grant(other, sizes[i - 1], 2048), grant(other, sizes[i], 2048));
          EXPECT_LE(grant(576, other, sizes[i - 1]), grant(576, other, sizes[i]))
              << sizes[i] << ' ' << other;
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
  constexpr std::uint64_t carry = std::uint64_t{1} << 35;  // block index 2^32
  for (const std::uint64_t first :
       {std::uint64_t{0}, std::uint64_t{5}, carry - 300, carry * 7 + 3}) {
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
