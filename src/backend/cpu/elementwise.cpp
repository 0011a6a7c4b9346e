#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/elementwise.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// The target's code comes after foreach_target.h.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "backend/cpu/elementwise.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd-inl.h"
#include "core/error.h"

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {
namespace {

template <class T>
void add_rows_of(int64_t rows, int64_t columns, RowsIn a, RowsIn b, RowsOut y) {
  for (int64_t row = 0; row < rows; ++row) {
    const T* left = a.row<T>(row);
    const T* right = b.row<T>(row);
    T* to = y.row<T>(row);
    for (int64_t i = 0; i < columns; i += lanes()) {
      store_in(hn::Add(load_in(left, i, columns), load_in(right, i, columns)), to, i, columns);
    }
  }
}

/// y = x * factor from one type to another.
template <class From, class To>
void scale_rows_of(int64_t rows, int64_t columns, RowsIn x, float factor, RowsOut y) {
  const Vec by = hn::Set(F32(), factor);
  for (int64_t row = 0; row < rows; ++row) {
    const From* from = x.row<From>(row);
    To* to = y.row<To>(row);
    for (int64_t i = 0; i < columns; i += lanes()) {
      store_in(hn::Mul(load_in(from, i, columns), by), to, i, columns);
    }
  }
}

void add_rows(DType type, int64_t rows, int64_t columns, RowsIn a, RowsIn b, RowsOut y) {
  if (type == DType::f32) {
    add_rows_of<float>(rows, columns, a, b, y);
  } else {
    add_rows_of<BFloat16>(rows, columns, a, b, y);
  }
}

void scale_rows(DType from, DType to, int64_t rows, int64_t columns, RowsIn x, float factor,
                RowsOut y) {
  if (from == DType::f32) {
    return to == DType::f32 ? scale_rows_of<float, float>(rows, columns, x, factor, y)
                            : scale_rows_of<float, BFloat16>(rows, columns, x, factor, y);
  }
  return to == DType::f32 ? scale_rows_of<BFloat16, float>(rows, columns, x, factor, y)
                          : scale_rows_of<BFloat16, BFloat16>(rows, columns, x, factor, y);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace snug {
namespace {

HWY_EXPORT(add_rows);
HWY_EXPORT(scale_rows);

void check_type(DType type) {
  check(type == DType::f32 || type == DType::bf16, "elementwise arithmetic on {}", name_of(type));
}

/// Cuts [rows, columns] into tiles of about 16384 elements: body(first row, rows, first column,
/// columns).
template <class Body>
void for_tiles(ThreadPool& pool, std::int64_t rows, std::int64_t columns, const Body& body) {
  constexpr std::int64_t kColumns = 16384;
  const std::int64_t across = std::max<std::int64_t>(1, (columns + kColumns - 1) / kColumns);
  const std::int64_t height = rows_per_block(std::min(columns, kColumns));
  const std::int64_t down = (rows + height - 1) / height;
  pool.run(down * across, [&](std::int64_t index, int) {
    const std::int64_t row = index / across * height;
    const std::int64_t column = index % across * kColumns;
    body(row, std::min(height, rows - row), column, std::min(kColumns, columns - column));
  });
}

template <class Rows>
Rows shifted(Rows rows, DType type, std::int64_t row, std::int64_t column) {
  using Byte = std::conditional_t<std::is_same_v<Rows, RowsIn>, const std::byte, std::byte>;
  rows.data = static_cast<Byte*>(rows.data) + (row * rows.stride + column) * size_of(type);
  return rows;
}

void scale_from_to(DType from, DType to, std::int64_t rows, std::int64_t columns, RowsIn x,
                   float factor, RowsOut y, ThreadPool& pool) {
  check_type(from);
  check_type(to);
  choose_target();
  const auto run = HWY_DYNAMIC_DISPATCH(scale_rows);
  for_tiles(pool, rows, columns, [&](auto row, auto height, auto column, auto width) {
    run(from, to, height, width, shifted(x, from, row, column), factor,
        shifted(y, to, row, column));
  });
}

}  // namespace

void add(const Elementwise& shape, RowsIn a, RowsIn b, RowsOut y, ThreadPool& pool) {
  const DType type = shape.type;
  check_type(type);
  choose_target();
  const auto run = HWY_DYNAMIC_DISPATCH(add_rows);
  for_tiles(pool, shape.rows, shape.columns, [&](auto row, auto height, auto column, auto width) {
    run(type, height, width, shifted(a, type, row, column), shifted(b, type, row, column),
        shifted(y, type, row, column));
  });
}

void scale(const Elementwise& shape, RowsIn x, float factor, RowsOut y, ThreadPool& pool) {
  scale_from_to(shape.type, shape.type, shape.rows, shape.columns, x, factor, y, pool);
}

void cast(DType from, DType to, std::int64_t rows, std::int64_t columns, RowsIn x, RowsOut y,
          ThreadPool& pool) {
  scale_from_to(from, to, rows, columns, x, 1.0F, y, pool);
}

void copy_rows(DType type, std::int64_t rows, std::int64_t columns, RowsIn x, RowsOut y,
               ThreadPool& pool) {
  const std::int64_t size = size_of(type);
  for_tiles(pool, rows, columns, [&](auto row, auto height, auto column, auto width) {
    for (std::int64_t r = row; r < row + height; ++r) {
      std::memcpy(shifted(y, type, r, column).data, shifted(x, type, r, column).data,
                  static_cast<std::size_t>(width * size));
    }
  });
}

}  // namespace snug
#endif
