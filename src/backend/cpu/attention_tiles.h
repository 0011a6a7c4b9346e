#pragma once
// What attention's forward and backward kernels share: the shape, and the tiles of query tokens.

#include <cstdint>

#include "core/dtype.h"
#include "plan/target.h"

namespace snug {

/// Grouped-query attention: query head h reads key/value head h / (heads / kv_heads).
struct AttentionShape {
  DType type = DType::bf16;  ///< of q, k, v, o and their gradients: bf16 or f32
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;  ///< divides heads
  std::int64_t head_dim = 0;
  float scale = 1;          ///< factor of q k^T
  std::int64_t window = 0;  ///< query t sees at most the keys t - window + 1 .. t; 0: no limit
  /// From avx512_bf16 on, bf16 operands are multiplied in bf16 (f32 sums): the probabilities and
  /// the gradients of the scores are then rounded to bf16. Else all products are f32.
  Isa isa = Isa::avx2;

  std::int64_t group() const { return heads / kv_heads; }
};

/// A matrix of tokens: row t starts `stride` elements after row t - 1 and holds [heads, head_dim].
template <class Pointer>
struct TokenMatrix {
  Pointer data = nullptr;
  std::int64_t stride = 0;
};
using TokenInput = TokenMatrix<const void*>;
using TokenOutput = TokenMatrix<void*>;

/// Consecutive query tokens of one document, which see keys from `document` on.
struct QueryTile {
  std::int32_t first = 0;
  std::int32_t count = 0;
  std::int32_t document = 0;  ///< first token of the document; kNoKeys: these queries see nothing
};
inline constexpr std::int32_t kNoKeys = -1;

/// Keys in a tile; tiles are counted from the document's first token.
inline constexpr std::int64_t kKeyTile = 64;

/// Rows that are transposed together.
inline constexpr std::int64_t kStaged = 16;

/// Pairs of bf16 in a padded row of the head.
constexpr std::int64_t pairs_of(std::int64_t head_dim) { return (head_dim + 31) / 32 * 16; }

/// Rows (query token, head of the group) in a full query tile: as many tokens as fill about 192
/// rows.
std::int64_t queries_per_tile(const AttentionShape& shape);

/// Writes the tiles of `tokens` tokens to `tiles` (room for `tokens`) and returns their number.
/// Tiles start at the document's first token, so a document's tiles do not depend on its place.
/// doc_start[t] > t marks a token that sees no key. InternalError when doc_start names no document.
std::int64_t make_query_tiles(const AttentionShape& shape, const std::int32_t* doc_start,
                              std::int64_t tokens, QueryTile* tiles);

/// InternalError unless heads, sizes and element type are such that the kernels can run them.
void check_attention(const AttentionShape& shape);

}  // namespace snug
