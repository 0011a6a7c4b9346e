#include "backend/cpu/gemm_blocks.h"

#include <algorithm>

namespace snug {
namespace {

constexpr std::int64_t kChunkBytes = std::int64_t{4} << 20;  // packed A; sums of C between k chunks
constexpr std::int64_t kChunkCols = 4096;                    // of such sums
constexpr std::int64_t kTileRows = 64;
constexpr std::int64_t kCollectedCols = 512;  // of a tile whose sums are collected, at most
constexpr std::int64_t kFloat = sizeof(float);

constexpr std::int64_t aligned(std::int64_t bytes) { return round_up(bytes, kGemmAlignment); }

}  // namespace

std::int64_t equal_piece(std::int64_t total, std::int64_t limit, std::int64_t unit) {
  const std::int64_t units = std::max<std::int64_t>(1, ceil_div(total, unit));
  const std::int64_t pieces = ceil_div(units, std::max<std::int64_t>(1, limit / unit));
  return ceil_div(units, pieces) * unit;
}

GemmBlocks cut_product(const GemmShape& shape, const GemmLayout& layout) {
  const auto [mr, nr, k_step, element, tile_bytes, tile_cols, k_block, late_a] = layout;
  GemmBlocks blocks;
  blocks.late_a = late_a && shape.a_k_contiguous;
  const std::int64_t most_k = tile_bytes / (tile_cols * element) / k_step * k_step;
  blocks.chunk_k = equal_piece(shape.k, most_k, k_step);
  blocks.adds_chunks = shape.k > most_k;
  blocks.collects = shape.rounding || shape.k > k_block;
  const std::int64_t full_m = round_up(shape.m, mr);
  const std::int64_t full_n = round_up(shape.n, nr);
  blocks.chunk_n = std::min(full_n, blocks.adds_chunks ? round_up(kChunkCols, nr) : full_n);
  std::int64_t most_m = full_m;
  if (!blocks.late_a) most_m = std::min(most_m, kChunkBytes / (blocks.chunk_k * element));
  if (blocks.adds_chunks) most_m = std::min(most_m, kChunkBytes / (blocks.chunk_n * kFloat));
  blocks.chunk_m = equal_piece(shape.m, most_m, mr);
  blocks.tile_m = std::min(round_up(kTileRows, mr), blocks.chunk_m);
  std::int64_t most_n = tile_bytes / (blocks.chunk_k * element);
  if (blocks.collects) most_n = std::min(most_n, kCollectedCols);
  blocks.tile_n = equal_piece(blocks.chunk_n, most_n, nr);

  // Bounds, which do not shrink when m, n or k grow as the pieces above can.
  const std::int64_t bound_k = std::clamp(round_up(shape.k, k_step), k_step, most_k);
  const auto bound = [](std::int64_t full, std::int64_t row, std::int64_t most, std::int64_t unit) {
    return aligned(std::min(full * row, std::max(most, unit * row)));
  };
  if (!blocks.late_a) blocks.a_bytes = bound(full_m, bound_k * element, kChunkBytes, mr);
  if (blocks.adds_chunks) {
    blocks.chunk_sums_bytes = bound(full_m, blocks.chunk_n * kFloat, kChunkBytes, mr);
  }
  blocks.own_b_bytes = bound(full_n, bound_k * element, tile_bytes, nr);
  if (blocks.late_a) blocks.own_a_bytes = aligned(mr * bound_k * element);
  if (shape.b_packed) blocks.own_unpacked_bytes = aligned(nr * kUnpackedK * size_of(shape.b));
  const std::int64_t collected = round_up(kTileRows, mr) * std::min(full_n, kCollectedCols);
  blocks.own_sums_bytes =
      aligned((blocks.collects ? std::max(collected, mr * nr) : mr * nr) * kFloat);
  return blocks;
}

}  // namespace snug
