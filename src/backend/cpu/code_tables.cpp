#include "backend/cpu/code_tables.h"

#include <bit>
#include <limits>

#include "core/error.h"

namespace snug {
namespace {

/// `magnitudes` entries of the map from code `zero` on.
CodeTables make_tables(const DynamicMap& map, std::size_t zero) {
  CodeTables tables;
  tables.values = map.data();
  tables.middles.fill(std::numeric_limits<float>::infinity());
  const std::size_t count = map.size() - zero - 1;
  for (std::size_t k = 0; k < count; ++k) {
    tables.middles[k] = (map[zero + k] + map[zero + k + 1]) / 2.0F;
  }
  const auto cell_of = [](float value) {
    return static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(value) >> 16);
  };
  tables.first_cell = cell_of(tables.middles[0]);
  tables.last_cell = cell_of(1.0F) - tables.first_cell;
  check(tables.last_cell < static_cast<std::int32_t>(CodeTables::kMostCells), "too many cells");
  std::int32_t below = 0;
  for (std::int32_t cell = 0; cell <= tables.last_cell; ++cell) {
    tables.below[static_cast<std::size_t>(cell)] = below;
    const std::int32_t start = below;
    while (cell_of(tables.middles[static_cast<std::size_t>(below)]) == cell + tables.first_cell) {
      ++below;
    }
    check(below - start <= 1, "two middles in a cell");
  }
  return tables;
}

}  // namespace

const CodeTables& signed_code_tables() {
  static const CodeTables tables = make_tables(signed_dynamic_map(), 127);
  return tables;
}

const CodeTables& unsigned_code_tables() {
  static const CodeTables tables = make_tables(unsigned_dynamic_map(), 0);
  return tables;
}

}  // namespace snug
