#pragma once
// Flash attention, forward: causal, documents, sliding window, grouped heads; memory O(tokens).

#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/cpu/attention_tiles.h"
#include "core/thread_pool.h"

namespace snug {

/// Token t sees the keys max(doc_start[t], t - window + 1) .. t. A token with doc_start[t] > t (one
/// that pads the batch) sees none: its output is 0, its lse -infinity.
struct AttentionForward {
  AttentionShape shape;
  std::int64_t tokens = 0;
  TokenInput q;                             ///< [tokens, heads, head_dim]
  TokenInput k;                             ///< [tokens, kv_heads, head_dim]
  TokenInput v;                             ///< [tokens, kv_heads, head_dim]
  const std::int32_t* doc_start = nullptr;  ///< [tokens]
  TokenOutput o;                            ///< [tokens, heads, head_dim]
  float* lse = nullptr;                     ///< [heads, tokens]: log of the sum of exponentials
};

/// Attention of new tokens to a cache that already holds their keys and values: query i sees the
/// rows max(0, position + i - window + 1) .. position + i. The output has the bits that
/// attention_forward gives these tokens of a document of position + queries tokens.
struct AttentionCached {
  AttentionShape shape;
  std::int64_t queries = 0;
  std::int64_t position = 0;  ///< keys before the first query
  TokenInput q;               ///< [queries, heads, head_dim]
  TokenInput k;               ///< [>= position + queries, kv_heads, head_dim]
  TokenInput v;
  TokenOutput o;  ///< [queries, heads, head_dim]
};

/// Bytes of scratch, aligned to 64, for either function below; `tokens` also bounds the queries.
std::int64_t attention_forward_scratch(const AttentionShape& shape, std::int64_t tokens,
                                       int threads);

/// A token's bits depend on its document up to it alone: not on other rows, nor on the threads.
void attention_forward(const AttentionForward& call, std::span<std::byte> scratch,
                       ThreadPool& pool);
void attention_cached(const AttentionCached& call, std::span<std::byte> scratch, ThreadPool& pool);

}  // namespace snug
