#pragma once
// Sums, scalings and conversions of [rows, columns] operands.

#include <cstdint>

#include "backend/cpu/rows.h"
#include "core/dtype.h"
#include "core/thread_pool.h"

namespace snug {

/// Operands of one type, bf16 or f32; arithmetic in f32, rounded once.
struct Elementwise {
  DType type = DType::bf16;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};

/// y = a + b; y may be a or b.
void add(const Elementwise& shape, RowsIn a, RowsIn b, RowsOut y, ThreadPool& pool);

/// y = x * factor; y may be x.
void scale(const Elementwise& shape, RowsIn x, float factor, RowsOut y, ThreadPool& pool);

/// y = x, converted from `from` to `to`: each bf16 or f32.
void cast(DType from, DType to, std::int64_t rows, std::int64_t columns, RowsIn x, RowsOut y,
          ThreadPool& pool);

/// y = x for elements of any type; `columns` and strides count elements.
void copy_rows(DType type, std::int64_t rows, std::int64_t columns, RowsIn x, RowsOut y,
               ThreadPool& pool);

}  // namespace snug
