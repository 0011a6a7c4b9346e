// Few rows (generation): bound by reading w, so each w row is read once for all rows of x.

#include <algorithm>

#include "backend/cpu/gemm_engine.h"
#include "core/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/gemm_small.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h, which includes this file once a target.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace snug::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
constexpr std::int64_t kLanes = static_cast<std::int64_t>(hn::MaxLanes(Floats()));
constexpr std::int64_t kPair = 2;  // w rows at a time

HWY_INLINE hn::Vec<Floats> load(const float* from) { return hn::LoadU(Floats(), from); }

HWY_INLINE hn::Vec<Floats> load(const BFloat16* from) {
  const hn::Rebind<std::uint16_t, Floats> half;
  const hn::RebindToUnsigned<Floats> word;
  const auto bits = hn::LoadU(half, reinterpret_cast<const std::uint16_t*>(from));
  return hn::BitCast(Floats(), hn::ShiftLeft<16>(hn::PromoteTo(word, bits)));
}

// The last `count` elements of a row, zeros behind.
template <class T>
HWY_INLINE hn::Vec<Floats> load_tail(const T* from, std::int64_t count) {
  T padded[kLanes] = {};
  std::copy_n(from, count, padded);
  return load(padded);
}

// sums[r][j] = x row r . w row j for `rows` rows of x and two rows of w.
template <int rows, class X, class W>
void dots(const X* x, std::int64_t x_stride, const W* w, std::int64_t w_stride, std::int64_t k,
          float* sums, std::int64_t sums_stride) {
  const Floats d;
  hn::Vec<Floats> sum[rows][kPair];
  for (int r = 0; r < rows; ++r) {
    for (int j = 0; j < kPair; ++j) sum[r][j] = hn::Zero(d);
  }
  const auto add = [&](std::int64_t i, auto loader) HWY_ATTR {
    const auto w0 = loader(w + i);
    const auto w1 = loader(w + w_stride + i);
    for (int r = 0; r < rows; ++r) {
      const auto v = loader(x + r * x_stride + i);
      sum[r][0] = hn::MulAdd(v, w0, sum[r][0]);
      sum[r][1] = hn::MulAdd(v, w1, sum[r][1]);
    }
  };
  std::int64_t i = 0;
  for (; i + kLanes <= k; i += kLanes) add(i, [](const auto* from) HWY_ATTR { return load(from); });
  if (i < k) add(i, [&](const auto* from) HWY_ATTR { return load_tail(from, k - i); });
  for (int r = 0; r < rows; ++r) {
    for (int j = 0; j < kPair; ++j) {
      sums[r * sums_stride + j] = hn::GetLane(hn::SumOfLanes(d, sum[r][j]));
    }
  }
}

// sums[rows, cols] for w rows [first, first + cols). A row's sum does not depend on its group.
template <class X, class W>
void block(std::int64_t rows, std::int64_t k, const GemmMatrix& x, const GemmMatrix& w,
           std::int64_t first, std::int64_t cols, float* sums, std::int64_t sums_stride) {
  const X* const xs = static_cast<const X*>(x.data);
  const W* const ws = static_cast<const W*>(w.data) + first * w.stride;
  for (std::int64_t j = 0; j < cols; j += kPair) {
    // A lone last row is paired with itself; the second sum lands in a column of slack.
    const std::int64_t next = j + 1 < cols ? w.stride : 0;
    const auto group = [&](auto kernel, std::int64_t row) {
      kernel(xs + row * x.stride, x.stride, ws + j * w.stride, next, k,
             sums + row * sums_stride + j, sums_stride);
    };
    std::int64_t row = 0;
    for (; row + 4 <= rows; row += 4) group(dots<4, X, W>, row);
    for (; row + 2 <= rows; row += 2) group(dots<2, X, W>, row);
    for (; row < rows; ++row) group(dots<1, X, W>, row);
  }
}

void small_block(std::int64_t rows, std::int64_t k, const GemmMatrix& x, const GemmMatrix& w,
                 std::int64_t first, std::int64_t cols, float* sums, std::int64_t sums_stride) {
  const auto run = [&](auto kernel) { kernel(rows, k, x, w, first, cols, sums, sums_stride); };
  const bool x_bf16 = x.dtype == DType::bf16;
  if (w.dtype == DType::bf16) {
    run(x_bf16 ? block<BFloat16, BFloat16> : block<float, BFloat16>);
  } else {
    run(x_bf16 ? block<BFloat16, float> : block<float, float>);
  }
}

}  // namespace
}  // namespace snug::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace snug {
HWY_EXPORT(small_block);

void small_forward(std::int64_t rows, std::int64_t n, std::int64_t k, const GemmMatrix& x,
                   const GemmMatrix& w, const GemmOutput& output, ThreadPool& pool) {
  constexpr std::int64_t kBlockCols = 32;
  check(rows >= 0 && rows <= kSmallRows, "{} rows, at most {} expected", rows, kSmallRows);
  check(x.k_contiguous && w.k_contiguous && !output.rounding, "small_forward's layout");
  if (rows == 0) return;
  pool.run((n + kBlockCols - 1) / kBlockCols, [&](std::int64_t i, int) {
    alignas(64) float sums[kSmallRows * kBlockCols];
    const std::int64_t first = i * kBlockCols;
    const std::int64_t cols = std::min(kBlockCols, n - first);
    HWY_DYNAMIC_DISPATCH(small_block)(rows, k, x, w, first, cols, sums, kBlockCols);
    store_block(output, sums, kBlockCols, 0, first, rows, cols);
  });
}

}  // namespace snug
#endif
