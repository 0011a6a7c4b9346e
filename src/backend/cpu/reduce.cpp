#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/reduce.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// The target's code comes after foreach_target.h.
#include "backend/cpu/gradient_output-inl.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/reduce.h"
#include "backend/cpu/scratch.h"
#include "backend/cpu/simd-inl.h"
#include "core/error.h"

#ifndef SNUG_REDUCE_ONCE
#define SNUG_REDUCE_ONCE
namespace snug {
inline constexpr std::int64_t kSumColumns = 64;
}  // namespace snug
#endif

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {
namespace {

template <class T>
void sum_columns_of(int64_t rows, RowsIn x, int64_t begin, int64_t count,
                    const GradientOutput& out) {
  HWY_ALIGN float sums[kSumColumns] = {};
  for (int64_t r = 0; r < rows; ++r) {
    const T* row = x.row<T>(r) + begin;
    for (int64_t i = 0; i < count; i += lanes()) {
      hn::Store(hn::Add(hn::Load(F32(), sums + i), load_in(row, i, count)), F32(), sums + i);
    }
  }
  write_gradient(out, begin, sums, count);
}

/// Columns [begin, begin + count), count <= kSumColumns.
void sum_columns(DType type, int64_t rows, RowsIn x, int64_t begin, int64_t count,
                 const GradientOutput& out) {
  if (type == DType::f32) {
    sum_columns_of<float>(rows, x, begin, count, out);
  } else {
    sum_columns_of<BFloat16>(rows, x, begin, count, out);
  }
}

template <class T>
float square_sum_of(const T* x, int64_t count) {
  const F32 d;
  const int64_t n = lanes();
  Vec sums[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  int64_t i = 0;
  for (; i + 4 * n <= count; i += 4 * n) {
    for (int64_t k = 0; k < 4; ++k) {
      const Vec a = load(x + i + k * n);
      sums[k] = hn::MulAdd(a, a, sums[k]);
    }
  }
  for (; i < count; i += n) {
    const Vec a = load_in(x, i, count);
    sums[0] = hn::MulAdd(a, a, sums[0]);
  }
  return sum_lanes(hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3])));
}

float square_sum(DType type, const void* x, int64_t begin, int64_t end) {
  if (type == DType::f32) return square_sum_of(static_cast<const float*>(x) + begin, end - begin);
  return square_sum_of(static_cast<const BFloat16*>(x) + begin, end - begin);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace snug {
namespace {

HWY_EXPORT(sum_columns);
HWY_EXPORT(square_sum);

constexpr std::int64_t kSquareBlock = 16384;

void check_type(DType type) {
  check(type == DType::f32 || type == DType::bf16, "sum over {}", name_of(type));
}

}  // namespace

void column_sum(DType type, std::int64_t rows, std::int64_t columns, RowsIn x,
                const GradientOutput& out, ThreadPool& pool) {
  check_type(type);
  choose_target();
  const auto run = HWY_DYNAMIC_DISPATCH(sum_columns);
  for_blocks(pool, columns, kSumColumns, [&](std::int64_t begin, std::int64_t end, int) {
    run(type, rows, x, begin, end - begin, out);
  });
}

std::int64_t sum_of_squares_scratch(std::int64_t count) {
  return scratch_bytes((count + kSquareBlock - 1) / kSquareBlock, sizeof(float));
}

double sum_of_squares(DType type, const void* x, std::int64_t count, std::span<std::byte> scratch,
                      ThreadPool& pool) {
  check_type(type);
  choose_target();
  const std::int64_t blocks = (count + kSquareBlock - 1) / kSquareBlock;
  auto* parts = Scratch(scratch).take<float>(blocks);
  const auto run = HWY_DYNAMIC_DISPATCH(square_sum);
  for_blocks(pool, count, kSquareBlock, [&](std::int64_t begin, std::int64_t end, int) {
    parts[begin / kSquareBlock] = run(type, x, begin, end);
  });
  double sum = 0;
  for (std::int64_t i = 0; i < blocks; ++i) sum += static_cast<double>(parts[i]);
  return sum;
}

}  // namespace snug
#endif
