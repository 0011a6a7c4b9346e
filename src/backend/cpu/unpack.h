#pragma once
// Dequantising pieces of packed weight matrices (core/packed_format.h).

#include <cstdint>

#include "core/dtype.h"
#include "core/packed_format.h"

namespace snug {

/// A piece of a matrix: `rows` x `columns` elements from (row, column) on.
struct MatrixPiece {
  std::int64_t row = 0;
  std::int64_t rows = 0;
  std::int64_t column = 0;
  std::int64_t columns = 0;
};

/// Writes the piece's elements, each PackedMatrix::element rounded once to `type` (bf16 or f32), to
/// `to`, rows `stride` elements apart. Reads nothing beyond the matrix.
void unpack(const PackedMatrix& matrix, const MatrixPiece& piece, void* to, DType type,
            std::int64_t stride);

}  // namespace snug
