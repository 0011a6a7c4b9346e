#pragma once
// What attention's forward keeps for a worker.

#include <cstdint>

namespace snug {

/// A worker's arrays. P stands for the rows of a query tile, D for the head size, both padded
/// to 16. Where products are of pairs of bf16 (H pairs in a row of the head), query is [H, P], keys
/// [kKeyTile, H], values [D, kKeyTile / 2], all of pairs, and behind the scores come p's pairs.
struct ForwardBuffers {
  std::int64_t padded_rows;
  std::int64_t padded_dim;
  float* query;      // [D, P]: q^T * scale * log2(e)
  float* output;     // [D, P]: unnormalised o^T
  float* keys;       // [kKeyTile, D]
  float* values;     // [kKeyTile, D]
  float* scores;     // [kKeyTile, panel]: s^T in units of log2, then p^T
  float* staging;    // [kKeyTile / 2, D]
  float* max;        // [P]
  float* sum;        // [P]
  float* factor;     // [P]
  std::int32_t* at;  // [P]: each row's key index
};

}  // namespace snug
