#pragma once
// Sums over a matrix in a fixed order, whatever the threads.

#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/cpu/gradient_output.h"
#include "backend/cpu/rows.h"
#include "core/dtype.h"
#include "core/thread_pool.h"

namespace snug {

/// out[c] = or += the f32 sum of column c of x [rows, columns] (bf16 or f32), rows in order: the
/// gradient of a bias.
void column_sum(DType type, std::int64_t rows, std::int64_t columns, RowsIn x,
                const GradientOutput& out, ThreadPool& pool);

/// Bytes of scratch, aligned to 64, for `count` elements.
std::int64_t sum_of_squares_scratch(std::int64_t count);

/// Sum of x^2 over `count` elements of bf16 or f32: f32 within blocks of 16384 elements, double
/// over the blocks in order. Not finite if an element is not, or if a block's sum overflows f32.
double sum_of_squares(DType type, const void* x, std::int64_t count, std::span<std::byte> scratch,
                      ThreadPool& pool);

}  // namespace snug
