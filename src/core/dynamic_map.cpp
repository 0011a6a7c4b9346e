#include "core/dynamic_map.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace snug {
namespace {

constexpr float kLow = 0.1F;
constexpr float kHigh = 1.0F;

/// Point `j` of `steps` + 1 evenly spaced ones, rounded as torch.linspace rounds.
float point(int j, int steps) {
  const float step = (kHigh - kLow) / static_cast<float>(steps);
  if (j < (steps + 1) / 2) return std::fma(step, static_cast<float>(j), kLow);
  return std::fma(-step, static_cast<float>(steps - j), kHigh);
}

DynamicMap make_map(bool with_negatives) {
  constexpr std::array<float, 7> kDecades = {1e-6F, 1e-5F, 1e-4F, 1e-3F, 1e-2F, 1e-1F, 1.0F};
  std::vector<float> values{0.0F, 1.0F};
  for (std::size_t i = 0; i < kDecades.size(); ++i) {
    const int steps = 1 << (with_negatives ? i : i + 1);
    for (int j = 0; j < steps; ++j) {
      const float mean = (point(j, steps) + point(j + 1, steps)) / 2.0F;
      values.push_back(kDecades[i] * mean);
      if (with_negatives) values.push_back(-(kDecades[i] * mean));
    }
  }
  std::sort(values.begin(), values.end());
  DynamicMap map{};
  std::copy(values.begin(), values.end(), map.begin());
  return map;
}

}  // namespace

const DynamicMap& signed_dynamic_map() {
  static const DynamicMap map = make_map(true);
  return map;
}

const DynamicMap& unsigned_dynamic_map() {
  static const DynamicMap map = make_map(false);
  return map;
}

std::uint8_t nearest_code(const DynamicMap& map, float value) {
  const auto above = std::lower_bound(map.begin(), map.end(), value);
  if (above == map.begin()) return 0;
  if (above == map.end()) return 255;
  const auto code = static_cast<std::uint8_t>(above - map.begin());
  const float middle = (*(above - 1) + *above) / 2.0F;
  return value <= middle ? static_cast<std::uint8_t>(code - 1) : code;
}

}  // namespace snug
