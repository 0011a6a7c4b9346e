// What the updates of a parameter share, a vector of elements at a time.
// Included once per Highway target, so no #pragma once.

#if defined(SNUG_BACKEND_CPU_UPDATE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SNUG_BACKEND_CPU_UPDATE_INL_H_
#undef SNUG_BACKEND_CPU_UPDATE_INL_H_
#else
#define SNUG_BACKEND_CPU_UPDATE_INL_H_
#endif

#include <hwy/highway.h>

#include "backend/cpu/rounding-inl.h"
#include "backend/cpu/simd-inl.h"
#include "backend/cpu/update.h"

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {

/// The stream of a parameter's state: 0 the weight, from 1 on its states.
HWY_INLINE RandomStream stream_of(const Update& update, uint32_t state) {
  RandomStream result = update.rounding != nullptr ? *update.rounding : RandomStream{};
  result.part += state;
  return result;
}

/// Stores to f32, or to bf16 rounded stochastically when kRandom, else to nearest.
template <bool kRandom>
HWY_INLINE void store_rounded(Vec value, float* to, int64_t i, int64_t end, RandomBits&, uint64_t) {
  store_in(value, to, i, end);
}
template <bool kRandom>
HWY_INLINE void store_rounded(Vec value, BFloat16* to, int64_t i, int64_t end, RandomBits& random,
                              uint64_t element) {
  if constexpr (kRandom) {
    const auto bits = round_bf16_stochastic(value, random.at(element));
    if (end - i >= lanes()) {
      store_bits(bits, to + i);
    } else {
      store_some_bits(bits, to + i, end - i);
    }
  } else {
    store_in(value, to, i, end);
  }
}

/// Weight, gradient and master of types known to the compiler; `end` is where the caller's elements
/// end, for the last vector.
template <class W, class G, bool kMaster, bool kRandom>
class UpdateElements {
 public:
  static constexpr bool kRounds = kRandom;

  explicit UpdateElements(const Update& update)
      : weight_(static_cast<W*>(update.weight)),
        gradient_(static_cast<const G*>(update.gradient)),
        master_(update.master),
        clip_(hn::Set(F32(), update.clip != nullptr ? *update.clip : 1.0F)),
        first_(update.first_element),
        random_(stream_of(update, 0)) {}

  HWY_INLINE Vec gradient(int64_t i, int64_t end) const {
    return hn::Mul(load_in(gradient_, i, end), clip_);
  }
  HWY_INLINE Vec value(int64_t i, int64_t end) const {
    if constexpr (kMaster) {
      return load_in(master_, i, end);
    } else {
      return load_in(weight_, i, end);
    }
  }
  HWY_INLINE void store_value(Vec p, int64_t i, int64_t end) {
    if constexpr (kMaster) {
      store_in(p, master_, i, end);
      store_in(p, weight_, i, end);
    } else {
      store_rounded<kRandom>(p, weight_, i, end, random_, element(i));
    }
  }
  uint64_t element(int64_t i) const { return first_ + static_cast<uint64_t>(i); }

 private:
  W* weight_;
  const G* gradient_;
  float* master_;
  Vec clip_;
  uint64_t first_;
  RandomBits random_;
};

template <class W, class G, class Body>
HWY_INLINE void run_update_by_kind(const Update& update, const Body& body, int64_t begin,
                                   int64_t end) {
  if (update.master != nullptr) {
    // With a master only states can be rounded at random.
    if (update.rounding != nullptr) {
      UpdateElements<W, G, true, true> elements(update);
      body(elements, begin, end);
    } else {
      UpdateElements<W, G, true, false> elements(update);
      body(elements, begin, end);
    }
  } else if (update.rounding != nullptr) {
    UpdateElements<W, G, false, true> elements(update);
    body(elements, begin, end);
  } else {
    UpdateElements<W, G, false, false> elements(update);
    body(elements, begin, end);
  }
}

/// body(elements, begin, end) with the UpdateElements of the operands' types.
template <class Body>
void run_update(const Update& update, const Body& body, int64_t begin, int64_t end) {
  const bool narrow_gradient = update.gradient_type == DType::bf16;
  if (update.weight_type == DType::f32) {
    narrow_gradient ? run_update_by_kind<float, BFloat16>(update, body, begin, end)
                    : run_update_by_kind<float, float>(update, body, begin, end);
  } else {
    narrow_gradient ? run_update_by_kind<BFloat16, BFloat16>(update, body, begin, end)
                    : run_update_by_kind<BFloat16, float>(update, body, begin, end);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#endif  // include guard
