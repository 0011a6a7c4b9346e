#pragma once
// Operands of the matrix products under test, guarded on all sides, and what they must come to.

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

#include "backend/cpu/gemm.h"
#include "core/error.h"

namespace snug {

// SNUG_TEST_ISA caps the whole process: Highway's dispatch as well.
inline Isa machine_isa() {
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
inline std::vector<Isa> testable_isas() {
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

inline Operands operands(const Case& c, DType a_dtype, DType b_dtype) {
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

inline GemmOutput view_of(Matrix& matrix) {
  GemmOutput output;
  output.data = matrix.data();
  output.dtype = matrix.dtype();
  output.stride = matrix.stride();
  return output;
}

struct alignas(64) Line {
  std::array<std::byte, 64> bytes;
};

inline void run_gemm(std::int64_t m, std::int64_t n, std::int64_t k, const GemmMatrix& a,
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
inline double tolerance(std::int64_t k, double size, DType stored) {
  const double eps = std::ldexp(1.0, -24);
  const double sum = 2 * eps * static_cast<double>(k + 2);
  return sum + (stored == DType::bf16 ? std::ldexp(1.0, -8) : eps) * (size + sum);
}

inline void expect_product(const Case& c, const Operands& in, const Matrix& out,
                           const Matrix* before, const Matrix* bias) {
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

}  // namespace snug
