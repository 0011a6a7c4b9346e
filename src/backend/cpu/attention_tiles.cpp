#include "backend/cpu/attention_tiles.h"

#include <algorithm>

#include "core/error.h"

namespace snug {

std::int64_t queries_per_tile(const AttentionShape& shape) {
  return std::max<std::int64_t>(1, 192 / shape.group());
}

std::int64_t make_query_tiles(const AttentionShape& shape, const std::int32_t* doc_start,
                              std::int64_t tokens, QueryTile* tiles) {
  const std::int64_t most = queries_per_tile(shape);
  std::int64_t count = 0;
  for (std::int64_t begin = 0; begin < tokens;) {
    const std::int32_t document = doc_start[begin];
    std::int64_t end = begin + 1;
    while (end < tokens && doc_start[end] == document) ++end;
    const bool sees_nothing = document >= end;
    check(sees_nothing || document == begin, "doc_start[{}] is {}, expected {}", begin, document,
          begin);
    for (std::int64_t first = begin; first < end; first += most) {
      tiles[count++] = {static_cast<std::int32_t>(first),
                        static_cast<std::int32_t>(std::min(most, end - first)),
                        sees_nothing ? kNoKeys : document};
    }
    begin = end;
  }
  return count;
}

void check_attention(const AttentionShape& shape) {
  check(shape.type == DType::bf16 || shape.type == DType::f32, "attention of {}",
        name_of(shape.type));
  check(shape.kv_heads > 0 && shape.heads > 0 && shape.heads % shape.kv_heads == 0,
        "{} query heads over {} key heads", shape.heads, shape.kv_heads);
  check(shape.head_dim > 0 && shape.head_dim <= 1024, "head size {}", shape.head_dim);
  check(shape.scale > 0, "scale {}", shape.scale);
  check(shape.window >= 0, "window {}", shape.window);
}

}  // namespace snug
