#include "backend/cpu/adapters.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/adapters.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// The target's code comes after foreach_target.h.
#include <cmath>

#include "backend/cpu/gradient_output-inl.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/philox_fill.h"
#include "backend/cpu/scratch.h"
#include "backend/cpu/simd-inl.h"
#include "core/error.h"

#ifndef SNUG_ADAPTERS_ONCE
#define SNUG_ADAPTERS_ONCE
namespace snug {
inline constexpr std::int64_t kScaledColumns = 64;
inline constexpr std::int64_t kDrawn = 1024;  ///< random numbers drawn at a time
}  // namespace snug
#endif

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {
namespace {

template <class T>
void scale_rows_of(const ScaleColumns& call, const float* factor, const float* bias, int64_t begin,
                   int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const T* x = call.x.row<T>(r);
    T* y = call.y.row<T>(r);
    for (int64_t i = 0; i < call.columns; i += lanes()) {
      const Vec product = hn::MulAdd(load_in(x, i, call.columns), load_in(factor, i, call.columns),
                                     load_in(bias, i, call.columns));
      store_in(product, y, i, call.columns);
    }
  }
}

void scale_rows(const ScaleColumns& call, const float* factor, const float* bias, int64_t begin,
                int64_t end) {
  if (call.type == DType::f32) {
    scale_rows_of<float>(call, factor, bias, begin, end);
  } else {
    scale_rows_of<BFloat16>(call, factor, bias, begin, end);
  }
}

template <class T>
void sum_products_of(int64_t rows, RowsIn dy, RowsIn x, int64_t begin, int64_t count,
                     const float* n, const GradientOutput& out) {
  HWY_ALIGN float sums[kScaledColumns] = {};
  for (int64_t r = 0; r < rows; ++r) {
    const T* a = dy.row<T>(r) + begin;
    const T* b = x.row<T>(r) + begin;
    for (int64_t i = 0; i < count; i += lanes()) {
      const Vec sum = hn::Load(F32(), sums + i);
      hn::Store(hn::MulAdd(load_in(a, i, count), load_in(b, i, count), sum), F32(), sums + i);
    }
  }
  for (int64_t i = 0; i < count; ++i) sums[i] /= n[begin + i];
  write_gradient(out, begin, sums, count);
}

/// Columns [begin, begin + count), count <= kScaledColumns.
void sum_products(DType type, int64_t rows, RowsIn dy, RowsIn x, int64_t begin, int64_t count,
                  const float* n, const GradientOutput& out) {
  if (type == DType::f32) {
    sum_products_of<float>(rows, dy, x, begin, count, n, out);
  } else {
    sum_products_of<BFloat16>(rows, dy, x, begin, count, n, out);
  }
}

template <class T>
float squares_of(const T* x, int64_t count) {
  Vec sum = hn::Zero(F32());
  for (int64_t i = 0; i < count; i += lanes()) {
    const Vec value = load_in(x, i, count);
    sum = hn::MulAdd(value, value, sum);
  }
  return sum_lanes(sum);
}

float row_squares(const GemmMatrix& w, int64_t row, int64_t columns) {
  if (w.dtype == DType::f32) {
    return squares_of(static_cast<const float*>(w.data) + row * w.stride, columns);
  }
  return squares_of(static_cast<const BFloat16*>(w.data) + row * w.stride, columns);
}

template <class T>
void drop_row_of(const T* x, T* y, const uint16_t* bits, int64_t count, Vec threshold, Vec factor) {
  const U32 wide;
  for (int64_t i = 0; i < count; i += lanes()) {
    const auto drawn = hn::PromoteTo(wide, hn::LoadU(U16(), bits + i));
    const Vec number = hn::ConvertTo(F32(), hn::BitCast(I32(), drawn));
    const Vec kept =
        hn::IfThenElseZero(hn::Ge(number, threshold), hn::Mul(load_in(x, i, count), factor));
    store_in(kept, y, i, count);
  }
}

void drop_rows(const Dropout& call, int64_t begin, int64_t end) {
  HWY_ALIGN uint16_t bits[kDrawn + 64] = {};
  const Vec threshold = hn::Set(F32(), static_cast<float>(call.threshold));
  const Vec factor = hn::Set(F32(), 65536.0F / (65536.0F - static_cast<float>(call.threshold)));
  for (int64_t t = begin; t < end; ++t) {
    RandomStream stream = call.stream;
    stream.part = static_cast<uint32_t>(call.rows[t]);
    const auto first = static_cast<uint64_t>(call.positions[t] * call.width);
    for (int64_t at = 0; at < call.width; at += kDrawn) {
      const int64_t count = HWY_MIN(kDrawn, call.width - at);
      fill_bits16(stream, first + static_cast<uint64_t>(at), count, bits);
      if (call.type == DType::f32) {
        drop_row_of(call.x.row<float>(t) + at, call.y.row<float>(t) + at, bits, count, threshold,
                    factor);
      } else {
        drop_row_of(call.x.row<BFloat16>(t) + at, call.y.row<BFloat16>(t) + at, bits, count,
                    threshold, factor);
      }
    }
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace snug {
namespace {

HWY_EXPORT(scale_rows);
HWY_EXPORT(sum_products);
HWY_EXPORT(row_squares);
HWY_EXPORT(drop_rows);

float element(const VectorIn& vector, std::int64_t i) {
  if (vector.type == DType::f32) return static_cast<const float*>(vector.data)[i];
  return static_cast<float>(static_cast<const BFloat16*>(vector.data)[i]);
}

GemmShape product_with_a(const DoraNorm& call, std::int64_t rows, DType type) {
  return {.m = rows, .n = call.rank, .k = call.columns, .a = type, .b = call.a.dtype};
}

GemmOutput sums_at(float* data, std::int64_t columns) {
  GemmOutput out;
  out.data = data;
  out.dtype = DType::f32;
  out.stride = columns;
  return out;
}

}  // namespace

std::int64_t scale_columns_scratch(std::int64_t columns) {
  return 2 * scratch_bytes(columns, sizeof(float));
}

void scale_columns(const ScaleColumns& call, std::span<std::byte> scratch, ThreadPool& pool) {
  choose_target();
  Scratch area(scratch);
  auto* factor = area.take<float>(call.columns);
  auto* bias = area.take<float>(call.columns);
  for (std::int64_t c = 0; c < call.columns; ++c) {
    factor[c] = element(call.m, c) / call.n[c];
    bias[c] = call.bias.data == nullptr ? 0.0F : element(call.bias, c);
  }
  const auto run = HWY_DYNAMIC_DISPATCH(scale_rows);
  for_blocks(
      pool, call.rows, rows_per_block(call.columns),
      [&](std::int64_t begin, std::int64_t end, int) { run(call, factor, bias, begin, end); });
}

void scale_columns_gradient(DType type, std::int64_t rows, std::int64_t columns, RowsIn dy,
                            RowsIn x, const float* n, const GradientOutput& out, ThreadPool& pool) {
  choose_target();
  const auto run = HWY_DYNAMIC_DISPATCH(sum_products);
  for_blocks(pool, columns, kScaledColumns, [&](std::int64_t begin, std::int64_t end, int) {
    run(type, rows, dy, x, begin, end - begin, n, out);
  });
}

std::int64_t dora_norm_scratch(const DoraNorm& call, Isa isa, int threads) {
  const std::int64_t products =
      std::max(gemm_scratch(product_with_a(call, call.rows, call.w.dtype), isa, threads),
               gemm_scratch(product_with_a(call, call.rank, call.a.dtype), isa, threads));
  return scratch_bytes(call.rows * call.rank, sizeof(float)) +
         scratch_bytes(call.rank * call.rank, sizeof(float)) + products;
}

void dora_norm(const DoraNorm& call, Isa isa, std::span<std::byte> scratch, ThreadPool& pool) {
  choose_target();
  const std::int64_t rank = call.rank;
  const std::int64_t wa_bytes = scratch_bytes(call.rows * rank, sizeof(float));
  const std::int64_t aa_bytes = scratch_bytes(rank * rank, sizeof(float));
  auto* wa = reinterpret_cast<float*>(scratch.data());
  auto* aa = reinterpret_cast<float*>(scratch.data() + wa_bytes);
  const auto rest = scratch.subspan(static_cast<std::size_t>(wa_bytes + aa_bytes));
  gemm(call.rows, rank, call.columns, call.w, call.a, sums_at(wa, rank), isa, rest, pool);
  gemm(rank, rank, call.columns, call.a, call.a, sums_at(aa, rank), isa, rest, pool);
  const auto squares = HWY_DYNAMIC_DISPATCH(row_squares);
  constexpr std::int64_t kRows = 16;
  for_blocks(pool, call.rows, kRows, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      double mixed = 0;
      double own = 0;
      for (std::int64_t j = 0; j < rank; ++j) {
        const double bj = element(call.b, i * rank + j);
        mixed += bj * static_cast<double>(wa[i * rank + j]);
        double row = 0;
        for (std::int64_t k = 0; k < rank; ++k) {
          row += static_cast<double>(aa[j * rank + k]) * element(call.b, i * rank + k);
        }
        own += bj * row;
      }
      const double scale = call.scale;
      const double sum = squares(call.w, i, call.columns) + scale * (2 * mixed + scale * own);
      call.out[i] = static_cast<float>(std::sqrt(std::max(0.0, sum)));
    }
  });
}

void dropout(const Dropout& call, ThreadPool& pool) {
  choose_target();
  const auto run = HWY_DYNAMIC_DISPATCH(drop_rows);
  for_blocks(pool, call.tokens, rows_per_block(call.width),
             [&](std::int64_t begin, std::int64_t end, int) { run(call, begin, end); });
}

}  // namespace snug
#endif
