#pragma once
// The head and its cross-entropy in tiles of rows and classes: only one tile's logits exist at a
// time. Rows without a label are skipped before the product.

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
  std::int64_t chunk_rows = 0;     ///< labelled rows in a tile, at most
  std::int64_t chunk_columns = 0;  ///< classes in a tile, at most
  bool gradients = false;          ///< dx and dw are wanted
  bool weight_gradient = false;    ///< the head's; an adapter's always with `gradients`
  std::int64_t rank = 0;           ///< of an adapter: logits x wt + low upt; 0: none
};

/// A factor of the logits: x wt for the head itself, low upt for an adapter on it.
struct HeadFactor {
  RowsIn x;    ///< [tokens, width]
  RowsIn w;    ///< [vocabulary, width]
  RowsOut dx;  ///< [tokens, width]; rows without a label become 0
  /// [vocabulary, width]. From the second chunk of rows on it is accumulated into, with its
  /// rounding.
  std::optional<GradientOutput> dw = std::nullopt;
};

struct HeadLossCall {
  HeadLoss shape;
  HeadFactor head;                       ///< of width `shape.width`
  HeadFactor adapter;                    ///< of width `shape.rank`
  const std::int32_t* labels = nullptr;  ///< [tokens]; negative: ignored
  float weight = 1;                      ///< gradients are of weight * loss
};

/// Bytes of scratch, aligned to 64.
std::int64_t head_loss_scratch(const HeadLoss& shape, Isa isa, int threads);

/// Returns the sum of the labelled rows' cross-entropies, in double. Allocates nothing. Where a
/// chunk of rows needs several tiles, a first visit finds its rows' log-sums and a second one makes
/// each tile's logits again for the gradients (Wijmans et al. 2024, "Cut your losses in
/// large-vocabulary language models", do the same on a GPU).
double head_loss(const HeadLossCall& call, Isa isa, std::span<std::byte> scratch, ThreadPool& pool);

}  // namespace snug
