#pragma once
// What gemm.cpp needs of an instruction set: panels' layout, packing and the register tile.

#include <cstddef>
#include <cstdint>

#include "backend/cpu/gemm.h"

namespace snug {

/// The layout of panels and what the caches want. A panel holds mr rows of A or nr columns of B,
/// its rest filled with zeros.
struct GemmLayout {
  std::int64_t mr = 0;
  std::int64_t nr = 0;
  std::int64_t k_step = 1;         ///< k are taken in groups of this many
  std::int64_t element_bytes = 0;  ///< of a panel
  std::int64_t tile_bytes = 0;     ///< B panels that stay in a core's L2 cache
  std::int64_t tile_cols = 0;      ///< fewer columns than this are not worth staying: k is cut
  std::int64_t k_block = 0;        ///< as many k of a B panel stay in L1
  bool late_a = false;             ///< packing k-contiguous A is a copy: left to each tile
  bool operator==(const GemmLayout&) const = default;
};

struct GemmEngine {
  GemmLayout layout;

  /// Packs `count` outer indices from `first` on, `k` of their k from `k_first` on, into one panel.
  using Pack = void (*)(const GemmMatrix& source, std::int64_t first, std::int64_t count,
                        std::int64_t k_first, std::int64_t k, std::byte* panel);
  Pack pack_a = nullptr;
  Pack pack_b = nullptr;

  /// c[mr, nr] (+)= A panel x B panel over `steps` groups of k.
  using Micro = void (*)(const std::byte* a, const std::byte* b, std::int64_t steps, float* c,
                         std::int64_t c_stride, bool add);
  Micro micro = nullptr;

  /// Run by a worker before and after its calls of micro; may be absent.
  void (*begin)() = nullptr;
  void (*end)() = nullptr;

  /// Writes the sums values[rows, cols] to `output` at (row, col): GemmOutput's contract.
  using Store = void (*)(const GemmOutput& output, const float* values, std::int64_t value_stride,
                         std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t cols);
  Store store = nullptr;
};

/// An A tile is 16 rows of 32 k, a B tile 16 pairs of k by 16 columns; a panel's step is two tiles.
constexpr GemmLayout amx_layout() {
  return {.mr = 32,
          .nr = 32,
          .k_step = 32,
          .element_bytes = 2,
          .tile_bytes = std::int64_t{1} << 20,
          .tile_cols = 192,
          .k_block = std::int64_t{1} << 20,
          .late_a = true};
}

/// Panels of fp32, [k][rows]. The sums fill the registers: 12 x 32 of 32 registers of 16, or 4 x 24
/// of 16 registers of 8.
constexpr GemmLayout f32_layout(Isa isa) {
  const bool wide = isa >= Isa::avx512;
  return {.mr = wide ? 12 : 4,
          .nr = wide ? 32 : 24,
          .k_step = 1,
          .element_bytes = 4,
          .tile_bytes = std::int64_t{1} << 20,
          .tile_cols = 96,
          .k_block = 256,
          .late_a = false};
}

/// bf16 panels, for Isa::amx.
GemmEngine amx_engine();

/// fp32 panels in Highway, for what it dispatches to.
GemmEngine f32_engine();

/// GemmEngine::store for every engine, in Highway.
void store_block(const GemmOutput& output, const float* values, std::int64_t value_stride,
                 std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t cols);

}  // namespace snug
