#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/quantize.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// The target's code comes after foreach_target.h.
#include <algorithm>
#include <array>
#include <cmath>

#include "backend/cpu/quantize.h"
#include "backend/cpu/simd-inl.h"
#include "core/dynamic_map.h"
#include "core/packed_format.h"

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {
namespace {

HWY_INLINE float largest_magnitude(const float* values, int64_t count) {
  Vec most = hn::Zero(F32());
  for (int64_t i = 0; i < count; i += lanes()) {
    most = hn::Max(most, hn::Abs(load_in(values, i, count)));
  }
  return hn::GetLane(hn::MaxOfLanes(F32(), most));
}

std::array<float, 15> nf4_midpoints() {
  const auto levels = levels_of(PackedFormat::nf4);
  std::array<float, 15> middle{};
  for (size_t i = 0; i < middle.size(); ++i) middle[i] = (levels[i] + levels[i + 1]) / 2.0F;
  return middle;
}

/// Codes of up to kPackedBlock values, one a byte.
void nf4_codes(const float* values, int64_t count, float inverse, const float* middle,
               uint8_t* codes) {
  const Vec factor = hn::Set(F32(), inverse);
  const Vec one = hn::Set(F32(), 1.0F);
  const hn::Rebind<uint8_t, F32> byte;
  for (int64_t i = 0; i < count; i += lanes()) {
    const Vec scaled = hn::Mul(load_in(values, i, count), factor);
    const Vec x = hn::Min(one, hn::Max(hn::Neg(one), scaled));
    auto above = hn::Zero(I32());
    for (int m = 0; m < 15; ++m) {
      const auto more =
          hn::VecFromMask(I32(), hn::RebindMask(I32(), hn::Gt(x, hn::Set(F32(), middle[m]))));
      above = hn::Sub(above, more);
    }
    hn::StoreU(hn::TruncateTo(byte, hn::BitCast(U32(), above)), byte, codes + i);
  }
}

void nf4_blocks(const float* values, int64_t count, uint8_t* codes, float* scales) {
  constexpr uint8_t kZero = 7;
  const std::array<float, 15> middle = nf4_midpoints();
  uint8_t block_codes[kPackedBlock + HWY_MAX_BYTES];
  for (int64_t first = 0; first < count; first += kPackedBlock, ++scales) {
    const int64_t size = std::min(kPackedBlock, count - first);
    *scales = largest_magnitude(values + first, size);
    if (*scales == 0.0F) {
      std::fill_n(block_codes, size, kZero);
    } else {
      nf4_codes(values + first, size, 1.0F / *scales, middle.data(), block_codes);
    }
    for (int64_t i = 0; i < size; i += 2) {
      const uint8_t low = i + 1 < size ? block_codes[i + 1] : kZero;
      *codes++ = static_cast<uint8_t>(block_codes[i] << 4 | low);
    }
  }
}

void int8_row(const float* values, int64_t count, int8_t* codes, float* scale) {
  *scale = largest_magnitude(values, count);
  if (*scale == 0.0F) {
    std::fill_n(codes, count, int8_t{0});
    return;
  }
  const float inverse = 1.0F / *scale * 127.0F;
  const Vec factor = hn::Set(F32(), inverse);
  const hn::Rebind<int8_t, F32> byte;
  int64_t i = 0;
  for (; i + lanes() <= count; i += lanes()) {
    hn::StoreU(hn::DemoteTo(byte, hn::NearestInt(hn::Mul(load(values + i), factor))), byte,
               codes + i);
  }
  for (; i < count; ++i) codes[i] = static_cast<int8_t>(std::nearbyint(values[i] * inverse));
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace snug {

HWY_EXPORT(nf4_blocks);
HWY_EXPORT(int8_row);

void quantize_nf4(std::span<const float> values, std::uint8_t* codes, float* scales) {
  HWY_DYNAMIC_DISPATCH(nf4_blocks)
  (values.data(), static_cast<std::int64_t>(values.size()), codes, scales);
}

void quantize_int8(std::span<const float> row, std::int8_t* codes, float* scale) {
  HWY_DYNAMIC_DISPATCH(int8_row)
  (row.data(), static_cast<std::int64_t>(row.size()), codes, scale);
}

void quantize_scales(std::span<const float> scales, std::uint8_t* codes, float* nested,
                     float* offset) {
  double sum = 0;
  for (const float scale : scales) sum += static_cast<double>(scale);
  const auto mean = static_cast<float>(sum / static_cast<double>(scales.size()));
  *offset = mean;
  const DynamicMap& map = signed_dynamic_map();
  for (std::size_t first = 0; first < scales.size(); first += kNestedBlock) {
    const auto block =
        scales.subspan(first, std::min<std::size_t>(kNestedBlock, scales.size() - first));
    float most = 0;
    for (const float scale : block) most = std::max(most, std::abs(scale - mean));
    nested[first / kNestedBlock] = most;
    const float inverse = most == 0.0F ? 0.0F : 1.0F / most;
    for (std::size_t i = 0; i < block.size(); ++i) {
      codes[first + i] = nearest_code(map, (block[i] - mean) * inverse);
    }
  }
}

}  // namespace snug
#endif
