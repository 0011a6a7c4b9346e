#pragma once
// How a matrix product is cut into chunks and tiles, and the scratch that takes.

#include <cstdint>

#include "backend/cpu/gemm_engine.h"
#include "backend/cpu/scratch.h"

namespace snug {

constexpr std::int64_t kGemmAlignment = 64;  ///< bytes, of each part of the scratch
constexpr std::int64_t kUnpackedK = 256;     ///< of a panel, unpacked together before packing

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// The size of equal pieces of `total`, a multiple of `unit` and at most `limit` (but at least one
/// unit).
std::int64_t equal_piece(std::int64_t total, std::int64_t limit, std::int64_t unit);

/// How a product is cut, and where its scratch lies:
/// [packed A][sums of C between chunks of k][one room a worker: mark, B, A, unpacked B, sums].
struct GemmBlocks {
  bool late_a = false;       // a tile packs its own A panels
  bool adds_chunks = false;  // k is cut into chunks
  bool collects = false;     // a tile's sums are collected before they are stored
  std::int64_t chunk_m = 0;
  std::int64_t chunk_n = 0;
  std::int64_t chunk_k = 0;
  std::int64_t tile_m = 0;
  std::int64_t tile_n = 0;
  std::int64_t a_bytes = 0;
  std::int64_t chunk_sums_bytes = 0;
  std::int64_t own_b_bytes = 0;
  std::int64_t own_a_bytes = 0;
  std::int64_t own_unpacked_bytes = 0;
  std::int64_t own_sums_bytes = 0;

  std::int64_t own_bytes() const {
    return kGemmAlignment + own_b_bytes + own_a_bytes + own_unpacked_bytes + own_sums_bytes;
  }
  std::int64_t bytes(int threads) const {
    return a_bytes + chunk_sums_bytes + own_bytes() * threads;
  }
};

GemmBlocks cut_product(const GemmShape& shape, const GemmLayout& layout);

}  // namespace snug
