#pragma once
// Tables to decode 8-bit states and to find the nearest code of a value.

#include <array>
#include <cstdint>

#include "core/dynamic_map.h"

namespace snug {

/// The magnitudes of a map are sorted; magnitude k's upper middle lies half way to magnitude k + 1.
/// The middles below a number are found from its upper 16 bits: all numbers that share them (a
/// cell) have at most one middle between them.
struct CodeTables {
  /// Cells from the smallest middle's to 1's.
  static constexpr std::size_t kMostCells = 23 * 128 + 128;

  const float* values = nullptr;                 ///< of the 256 codes
  std::array<float, 256> middles{};              ///< infinite behind the last
  std::array<std::int32_t, kMostCells> below{};  ///< middles below a cell
  std::int32_t first_cell = 0;                   ///< upper 16 bits of the smallest middle
  std::int32_t last_cell = 0;                    ///< of 1, counted from the first
};

/// Of the positive half of the signed map: magnitude k is code 127 + k, -magnitude k code 127 - k.
const CodeTables& signed_code_tables();
const CodeTables& unsigned_code_tables();

}  // namespace snug
