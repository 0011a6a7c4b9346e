#pragma once
// The head and its cross-entropy in one visit, by chunks of rows: logits of a chunk exist, then the
// gradients they lead to, then the next chunk's. Rows without a label are skipped before the
// product.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "backend/cpu/gradient_output.h"
#include "backend/cpu/rows.h"
#include "core/dtype.h"
#include "core/thread_pool.h"
#include "plan/target.h"

namespace snug {

struct HeadLoss {
  DType type = DType::bf16;  ///< of x, w and dx: bf16 or f32
  std::int64_t tokens = 0;
  std::int64_t width = 0;
  std::int64_t vocabulary = 0;
  std::int64_t chunk_rows = 0;  ///< labelled rows whose logits exist at once
  bool gradients = false;       ///< dx and dw are wanted
  bool weight_gradient = false;
  DType gradient_type = DType::bf16;  ///< of dw: bf16 or f32
};

struct HeadLossCall {
  HeadLoss shape;
  RowsIn x;                              ///< [tokens, width]
  RowsIn w;                              ///< [vocabulary, width]
  const std::int32_t* labels = nullptr;  ///< [tokens]; negative: ignored
  float weight = 1;                      ///< gradients are of weight * loss
  RowsOut dx;                            ///< [tokens, width]; rows without a label become 0
  /// [vocabulary, width]. From the second chunk on it is accumulated into, with its rounding.
  std::optional<GradientOutput> dw;
};

/// Bytes of scratch, aligned to 64.
std::int64_t head_loss_scratch(const HeadLoss& shape, Isa isa, int threads);

/// Returns the sum of the labelled rows' cross-entropies, in double. Allocates nothing.
double head_loss(const HeadLossCall& call, Isa isa, std::span<std::byte> scratch, ThreadPool& pool);

}  // namespace snug
