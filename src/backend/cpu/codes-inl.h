// 8-bit states on vectors. Included once per Highway target, so no #pragma once.

#if defined(SNUG_BACKEND_CPU_CODES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SNUG_BACKEND_CPU_CODES_INL_H_
#undef SNUG_BACKEND_CPU_CODES_INL_H_
#else
#define SNUG_BACKEND_CPU_CODES_INL_H_
#endif

#include <hwy/highway.h>

#include <limits>

#include "backend/cpu/code_tables.h"
#include "backend/cpu/simd-inl.h"
#include "backend/cpu/update.h"
#include "ir/op.h"

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {

using U8 = hn::Rebind<uint8_t, F32>;

/// Codes as 32-bit indices; lanes from `count` on are code 0.
HWY_INLINE hn::Vec<I32> load_codes(const uint8_t* from, int64_t count) {
  if (count >= lanes()) return hn::PromoteTo(I32(), hn::LoadU(U8(), from));
  HWY_ALIGN uint8_t buffer[HWY_MAX_BYTES] = {};
  std::memcpy(buffer, from, static_cast<size_t>(count));
  return hn::PromoteTo(I32(), hn::LoadU(U8(), buffer));
}

HWY_INLINE void store_codes(hn::Vec<I32> codes, uint8_t* to, int64_t count) {
  if (count >= lanes()) {
    hn::StoreU(hn::DemoteTo(U8(), codes), U8(), to);
    return;
  }
  HWY_ALIGN uint8_t buffer[HWY_MAX_BYTES];
  hn::StoreU(hn::DemoteTo(U8(), codes), U8(), buffer);
  std::memcpy(to, buffer, static_cast<size_t>(count));
}

/// The middles below `size` (kAt: at or below), size >= 0.
template <bool kAt>
HWY_INLINE hn::Vec<I32> middles_below(Vec size, const CodeTables& tables) {
  const I32 di;
  const auto cell = hn::Sub(hn::BitCast(di, hn::ShiftRight<16>(hn::BitCast(U32(), size))),
                            hn::Set(di, tables.first_cell));
  const auto known = hn::Min(hn::Max(cell, hn::Zero(di)), hn::Set(di, tables.last_cell));
  const auto below = hn::GatherIndex(di, tables.below.data(), known);
  const Vec middle = hn::GatherIndex(F32(), tables.middles.data(), below);
  const auto above = kAt ? hn::Ge(size, middle) : hn::Gt(size, middle);
  // A true mask is -1.
  return hn::Sub(below, hn::VecFromMask(di, hn::RebindMask(di, above)));
}

/// One block of an 8-bit state while it is worked on.
template <bool kSigned>
class CodedBlock {
 public:
  /// Block `block` of `count` <= 256 elements.
  CodedBlock(const CodedState& state, int64_t block, int64_t count)
      : tables_(kSigned ? signed_code_tables() : unsigned_code_tables()),
        codes_(state.codes + block * kCodeBlock),
        absmax_(state.absmax + block),
        scale_(hn::Set(F32(), *absmax_)),
        count_(count) {}

  /// Elements i.. of the block as they are stored.
  HWY_INLINE Vec get(int64_t i) const {
    const auto codes = load_codes(codes_ + i, count_ - i);
    return hn::Mul(hn::GatherIndex(F32(), tables_.values, codes), scale_);
  }
  /// Elements i.. as they will be stored by finish().
  HWY_INLINE void set(int64_t i, Vec value) { hn::Store(value, F32(), values_ + i); }

  HWY_INLINE void finish() {
    const F32 d;
    for (int64_t i = count_; i % lanes() != 0; ++i) values_[i] = 0.0F;
    Vec largest = hn::Zero(d);
    for (int64_t i = 0; i < count_; i += lanes()) {
      largest = hn::Max(largest, hn::Abs(hn::Load(d, values_ + i)));
    }
    largest = hn::MaxOfLanes(d, largest);
    *absmax_ = hn::GetLane(largest);
    const Vec divisor = hn::Max(largest, hn::Set(d, std::numeric_limits<float>::min()));
    for (int64_t i = 0; i < count_; i += lanes()) {
      store_codes(nearest(hn::Div(hn::Load(d, values_ + i), divisor)), codes_ + i, count_ - i);
    }
  }

 private:
  HWY_INLINE hn::Vec<I32> nearest(Vec value) const {
    if constexpr (!kSigned) {
      return middles_below<false>(value, tables_);
    } else {
      const I32 di;
      const auto zero = hn::Set(di, 127);
      const Vec size = hn::Abs(value);
      const auto up = hn::Add(zero, middles_below<false>(size, tables_));
      const auto steps = hn::Min(hn::Max(middles_below<true>(size, tables_), hn::Set(di, 1)), zero);
      const auto negative = hn::RebindMask(di, hn::Lt(value, hn::Zero(F32())));
      return hn::IfThenElse(negative, hn::Sub(zero, steps), up);
    }
  }

  const CodeTables& tables_;
  uint8_t* codes_;
  float* absmax_;
  Vec scale_;
  int64_t count_;
  HWY_ALIGN float values_[kCodeBlock + HWY_MAX_BYTES / sizeof(float)];
};

}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#endif  // include guard
