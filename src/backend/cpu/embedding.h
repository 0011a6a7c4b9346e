#pragma once
// Rows of the embedding table by token id, and the table's gradient.

#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/cpu/gradient_output.h"
#include "backend/cpu/rows.h"
#include "core/dtype.h"
#include "core/thread_pool.h"

namespace snug {

struct EmbeddingShape {
  DType type = DType::bf16;  ///< of the table's and the tokens' rows; dy: bf16 or f32
  std::int64_t tokens = 0;
  std::int64_t vocabulary = 0;
  std::int64_t width = 0;
};

/// y[t] = table[ids[t]]; InternalError for an id outside the vocabulary.
void embedding(const EmbeddingShape& shape, RowsIn table, const std::int32_t* ids, RowsOut y,
               ThreadPool& pool);

/// Bytes of scratch, aligned to 64.
std::int64_t embedding_gradient_scratch(const EmbeddingShape& shape, int threads);

/// dw [vocabulary, width], dense: row i is (or is increased by) the f32 sum of the dy rows of the
/// tokens with id i, in token order. Rows without a token are 0, or kept when accumulating.
/// InternalError for an id outside the vocabulary.
void embedding_gradient(const EmbeddingShape& shape, RowsIn dy, const std::int32_t* ids,
                        const GradientOutput& dw, std::span<std::byte> scratch, ThreadPool& pool);

}  // namespace snug
