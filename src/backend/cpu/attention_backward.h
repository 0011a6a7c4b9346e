#pragma once
// Flash attention, backward: recomputes the probabilities tile by tile; memory O(tokens).

#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/cpu/attention_tiles.h"
#include "core/thread_pool.h"

namespace snug {

/// Operands as in AttentionForward; o and lse are its results. Gradients are written in full; those
/// of tokens that see no key, and that no token sees, are 0.
struct AttentionBackward {
  AttentionShape shape;
  std::int64_t tokens = 0;
  TokenInput q;
  TokenInput k;
  TokenInput v;
  const std::int32_t* doc_start = nullptr;
  TokenInput o;
  const float* lse = nullptr;
  TokenInput grad_o;   ///< [tokens, heads, head_dim]
  TokenOutput grad_q;  ///< [tokens, heads, head_dim]
  TokenOutput grad_k;  ///< [tokens, kv_heads, head_dim]
  TokenOutput grad_v;  ///< [tokens, kv_heads, head_dim]
};

/// Bytes of scratch, aligned to 64. Each worker sums dk and dv of one document and key head in f32.
std::int64_t attention_backward_scratch(const AttentionShape& shape, std::int64_t tokens,
                                        int threads);

/// A document's gradients depend on that document alone: not on the others, nor on the threads.
void attention_backward(const AttentionBackward& call, std::span<std::byte> scratch,
                        ThreadPool& pool);

}  // namespace snug
