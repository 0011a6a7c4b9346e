// Attention's softmax over one key tile after the other. Included once per Highway target, so no
// #pragma once. Source: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax".

#if defined(SNUG_BACKEND_CPU_ATTENTION_SOFTMAX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SNUG_BACKEND_CPU_ATTENTION_SOFTMAX_INL_H_
#undef SNUG_BACKEND_CPU_ATTENTION_SOFTMAX_INL_H_
#else
#define SNUG_BACKEND_CPU_ATTENTION_SOFTMAX_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <limits>

#include "backend/cpu/attention-inl.h"
#include "backend/cpu/attention_forward_buffers.h"
#include "backend/cpu/attention_pairs-inl.h"

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {

/// One vector of rows on its way through a key tile.
struct SoftmaxStep {
  Vec base;  // what is subtracted from the scores
  Vec sum;   // of the exponentials so far, relative to base
};

/// Masks the scores; takes their maximum, in units of log2 after the multiplication by `unit`, into
/// buffers.max; leaves the factor by which what was summed before shrinks in buffers.factor.
HWY_INLINE SoftmaxStep begin_softmax(const ForwardBuffers& buffers, int64_t row, float* scores,
                                     int64_t stride, int64_t key, const Visible& visible,
                                     int64_t window, float unit) {
  const F32 d;
  const Vec lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  Vec max = lowest;
  if (visible.all) {
    for (int64_t j = visible.begin; j < visible.end; ++j) {
      max = hn::Max(max, hn::Load(d, scores + j * stride));
    }
  } else {
    const auto at = hn::Load(I32(), buffers.at + row);
    for (int64_t j = visible.begin; j < visible.end; ++j) {
      const Vec score =
          hn::IfThenElse(sees(at, key + j, window), hn::Load(d, scores + j * stride), lowest);
      hn::Store(score, d, scores + j * stride);
      max = hn::Max(max, score);
    }
  }
  const Vec old_max = hn::Load(d, buffers.max + row);
  max = hn::Max(old_max, hn::Mul(max, hn::Set(d, unit)));
  const Vec base = hn::IfThenZeroElse(hn::Eq(max, lowest), max);  // a row that saw no key yet
  const Vec factor = exp2_nonpositive(hn::Sub(old_max, base));
  hn::Store(max, d, buffers.max + row);
  hn::Store(factor, d, buffers.factor + row);
  return {base, hn::Mul(hn::Load(d, buffers.sum + row), factor)};
}

/// Turns the scores of one vector of rows into exponentials, in place.
HWY_INLINE void online_softmax(const ForwardBuffers& buffers, int64_t row, float* scores,
                               int64_t stride, int64_t key, const Visible& visible,
                               int64_t window) {
  const F32 d;
  SoftmaxStep step = begin_softmax(buffers, row, scores, stride, key, visible, window, 1.0F);
  for (int64_t j = visible.begin; j < visible.end; ++j) {
    const Vec p = exp2_nonpositive(hn::Sub(hn::Load(d, scores + j * stride), step.base));
    hn::Store(p, d, scores + j * stride);
    step.sum = hn::Add(step.sum, p);
  }
  hn::Store(step.sum, d, buffers.sum + row);
}

/// The same into pairs of keys [kKeyTile / 2, kPairPanel]: in the pairs [begin, end), zero outside
/// of what is visible.
HWY_INLINE void online_softmax_pairs(const ForwardBuffers& buffers, int64_t row, float* scores,
                                     uint32_t* pairs, int64_t begin, int64_t end, int64_t key,
                                     const Visible& visible, int64_t window, float unit) {
  const F32 d;
  const U32 du;
  const Vec by = hn::Set(d, unit);
  SoftmaxStep step = begin_softmax(buffers, row, scores, kPairPanel, key, visible, window, unit);
  const auto clear = [&](int64_t from, int64_t to) HWY_ATTR {
    for (int64_t k = from; k < to; ++k) hn::Store(hn::Zero(du), du, pairs + k * kPairPanel);
  };
  const auto exponential = [&](int64_t j) HWY_ATTR {
    const Vec p = exp2_nonpositive(hn::MulSub(hn::Load(d, scores + j * kPairPanel), by, step.base));
    step.sum = hn::Add(step.sum, p);
    return p;
  };
  clear(begin, visible.begin / 2);
  for (int64_t j = visible.begin; j < visible.end; j += 2) {
    const auto first = narrow_words(exponential(j));
    const auto second = j + 1 < visible.end ? narrow_words(exponential(j + 1)) : hn::Zero(du);
    hn::Store(hn::Or(first, hn::ShiftLeft<16>(second)), du, pairs + j / 2 * kPairPanel);
  }
  clear((visible.end + 1) / 2, end);
  hn::Store(step.sum, d, buffers.sum + row);
}

}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#endif
