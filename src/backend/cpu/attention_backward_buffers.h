#pragma once
// The arrays of attention's backward kernels.

#include <cstdint>

#include "backend/cpu/attention_tiles.h"

namespace snug {

/// A block of a product writes up to 15 rows more than a document has.
inline constexpr std::int64_t kRowPadding = 16;

/// A worker's arrays. P stands for the rows of a query tile, D for the head size, both padded
/// to 16 (P to 32 where products are of pairs). Then, with H pairs in a row of the head, all of
/// pairs: query, grad_output [P / 2, D]; query_scaled, grad_output_t [H, P], not scaled; keys,
/// values [kKeyTile, H]; probability: first p, then ds, [kKeyTile, P / 2]; grad_score: panels of s,
/// of dp and of ds in pairs of keys.
struct BackwardBuffers {
  std::int64_t padded_rows;
  std::int64_t padded_dim;
  float* query;            // [P, D]
  float* query_scaled;     // [D, P]: q^T * scale * log2(e)
  float* grad_output;      // [P, D]
  float* grad_output_t;    // [D, P]
  float* grad_query;       // [D, P]: dq^T / scale
  float* keys;             // [kKeyTile, D]
  float* values;           // [kKeyTile, D]
  float* keys_t;           // [D, kKeyTile / 2] of pairs
  float* probability;      // [kKeyTile, P]: s^T in units of log2, then p^T
  float* grad_score;       // [kKeyTile, P]: dp^T, then ds^T
  float* staging;          // [kKeyTile / 2, D]
  float* lse;              // [P], in units of log2
  float* delta;            // [P]: sum of do * o
  std::int32_t* at;        // [P]: each row's key index
  float* document_grad_k;  // [tokens, D]: dk / scale
  float* document_grad_v;  // [tokens, D]
};

/// Of one worker's arrays, for documents of up to `tokens` tokens.
std::int64_t backward_floats(const AttentionShape& shape, std::int64_t tokens);

/// The arrays in `area`, which has that many floats.
BackwardBuffers backward_buffers(const AttentionShape& shape, std::int64_t tokens, float* area);

}  // namespace snug
