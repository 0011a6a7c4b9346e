// fp32 panels in Highway: a panel is [k][rows], so that one k of a panel is contiguous.

#include <cstring>

#include "backend/cpu/gemm_engine.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/gemm_f32.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h, which includes this file once a target.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace snug::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
constexpr std::int64_t kLanes = static_cast<std::int64_t>(hn::MaxLanes(Floats()));

// Both panels are multiples of 4, the width of a transposed strip.
constexpr GemmLayout kLayout = f32_layout(kLanes == 16 ? Isa::avx512 : Isa::avx2);
constexpr std::int64_t kMr = kLayout.mr;
constexpr std::int64_t kNr = kLayout.nr;
constexpr std::int64_t kVectors = kNr / kLanes;

HWY_INLINE hn::Vec<Floats> load(const float* from) { return hn::LoadU(Floats(), from); }

HWY_INLINE hn::Vec<Floats> load(const BFloat16* from) {
  const hn::Rebind<std::uint16_t, Floats> half;
  const hn::RebindToUnsigned<Floats> word;
  const auto bits = hn::LoadU(half, reinterpret_cast<const std::uint16_t*>(from));
  return hn::BitCast(Floats(), hn::ShiftLeft<16>(hn::PromoteTo(word, bits)));
}

// Rows that are contiguous in memory: one k is a copy.
template <std::int64_t rows, class T>
void pack_rows(const T* source, std::int64_t stride, std::int64_t count, std::int64_t k,
               float* panel) {
  for (std::int64_t i = 0; i < k; ++i, source += stride, panel += rows) {
    std::int64_t row = 0;
    if (count == rows) {
      for (; row + kLanes <= rows; row += kLanes)
        hn::StoreU(load(source + row), Floats(), panel + row);
    }
    for (; row < count; ++row) panel[row] = static_cast<float>(source[row]);
    for (; row < rows; ++row) panel[row] = 0.0F;
  }
}

// Four rows, each contiguous in k: a transposed strip of a panel.
template <std::int64_t rows, class T>
void pack_strip(const T* source, std::int64_t stride, std::int64_t k, float* panel) {
  HWY_ALIGN float strip[4 * kLanes];
  std::int64_t i = 0;
  for (; i + kLanes <= k; i += kLanes) {
    hn::StoreInterleaved4(load(source + i), load(source + stride + i),
                          load(source + 2 * stride + i), load(source + 3 * stride + i), Floats(),
                          strip);
    for (std::int64_t j = 0; j < kLanes; ++j) {
      std::memcpy(panel + (i + j) * rows, strip + 4 * j, 4 * sizeof(float));
    }
  }
  for (; i < k; ++i) {
    for (std::int64_t r = 0; r < 4; ++r) {
      panel[i * rows + r] = static_cast<float>(source[r * stride + i]);
    }
  }
}

template <std::int64_t rows, class T>
void pack_columns(const T* source, std::int64_t stride, std::int64_t count, std::int64_t k,
                  float* panel) {
  std::int64_t row = 0;
  for (; row + 4 <= count; row += 4) {
    pack_strip<rows>(source + row * stride, stride, k, panel + row);
  }
  for (; row < rows; ++row) {
    for (std::int64_t i = 0; i < k; ++i) {
      panel[i * rows + row] = row < count ? static_cast<float>(source[row * stride + i]) : 0.0F;
    }
  }
}

template <std::int64_t rows>
void pack(const GemmMatrix& source, std::int64_t first, std::int64_t count, std::int64_t k_first,
          std::int64_t k, std::byte* panel) {
  auto* const out = reinterpret_cast<float*>(panel);
  const auto from = [&](const auto* data) {
    if (source.k_contiguous) {
      pack_columns<rows>(data + first * source.stride + k_first, source.stride, count, k, out);
    } else {
      pack_rows<rows>(data + k_first * source.stride + first, source.stride, count, k, out);
    }
  };
  if (source.dtype == DType::bf16) {
    from(static_cast<const BFloat16*>(source.data));
  } else {
    from(static_cast<const float*>(source.data));
  }
}

void micro(const std::byte* a_panel, const std::byte* b_panel, std::int64_t steps,
           float* HWY_RESTRICT c, std::int64_t c_stride, bool add) {
  const auto* HWY_RESTRICT a = reinterpret_cast<const float*>(a_panel);
  const auto* HWY_RESTRICT b = reinterpret_cast<const float*>(b_panel);
  const Floats d;
  hn::Vec<Floats> sum[kMr][kVectors];
  for (std::int64_t r = 0; r < kMr; ++r) {
    for (std::int64_t v = 0; v < kVectors; ++v) {
      sum[r][v] = add ? hn::LoadU(d, c + r * c_stride + v * kLanes) : hn::Zero(d);
    }
  }
  for (std::int64_t step = 0; step < steps; ++step, a += kMr, b += kNr) {
    hn::Vec<Floats> row[kVectors];
    for (std::int64_t v = 0; v < kVectors; ++v) row[v] = hn::LoadU(d, b + v * kLanes);
    for (std::int64_t r = 0; r < kMr; ++r) {
      const auto factor = hn::Set(d, a[r]);
      for (std::int64_t v = 0; v < kVectors; ++v) {
        sum[r][v] = hn::MulAdd(factor, row[v], sum[r][v]);
      }
    }
  }
  for (std::int64_t r = 0; r < kMr; ++r) {
    for (std::int64_t v = 0; v < kVectors; ++v) {
      hn::StoreU(sum[r][v], d, c + r * c_stride + v * kLanes);
    }
  }
}

GemmEngine make_engine() {
  return {.layout = kLayout,
          .pack_a = pack<kMr>,
          .pack_b = pack<kNr>,
          .micro = micro,
          .begin = nullptr,
          .end = nullptr,
          .store = store_block};
}

}  // namespace
}  // namespace snug::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace snug {
HWY_EXPORT(make_engine);

GemmEngine f32_engine() { return HWY_DYNAMIC_DISPATCH(make_engine)(); }

}  // namespace snug
#endif
