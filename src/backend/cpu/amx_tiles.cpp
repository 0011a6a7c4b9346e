#include "backend/cpu/amx_tiles.h"

#include <immintrin.h>

#include <cstdint>

#define SNUG_AMX __attribute__((target("amx-tile")))

namespace snug {
namespace {

// LDTILECFG's 64 bytes (Intel SDM, palette 1).
struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constexpr TileConfig kTileConfig;

}  // namespace

SNUG_AMX void begin_amx_tiles() { _tile_loadconfig(&kTileConfig); }
SNUG_AMX void end_amx_tiles() { _tile_release(); }

}  // namespace snug
