#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/lion.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// The target's code comes after foreach_target.h.
#include "backend/cpu/codes-inl.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/update-inl.h"
#include "backend/cpu/update_blocks.h"

#ifndef SNUG_LION_ONCE
#define SNUG_LION_ONCE
namespace snug {

struct LionFactors {
  float decay;
  float lr;
  float keep1;
  float rest1;  // 1 - beta1
  float keep2;
  float rest2;
};

}  // namespace snug
#endif

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {
namespace {

struct LionVectors {
  explicit LionVectors(const LionFactors& f)
      : decay(hn::Set(F32(), f.decay)),
        lr(hn::Set(F32(), f.lr)),
        keep1(hn::Set(F32(), f.keep1)),
        rest1(hn::Set(F32(), f.rest1)),
        keep2(hn::Set(F32(), f.keep2)),
        rest2(hn::Set(F32(), f.rest2)) {}

  HWY_INLINE Vec weight(Vec p, Vec m, Vec g) const {
    const F32 d;
    const Vec direction = hn::Add(hn::Mul(keep1, m), hn::Mul(rest1, g));
    const Vec size = hn::IfThenZeroElse(hn::Eq(direction, hn::Zero(d)), lr);
    return hn::Sub(hn::Mul(p, decay), hn::CopySign(size, direction));
  }
  HWY_INLINE Vec moment(Vec m, Vec g) const {
    return hn::Add(hn::Mul(keep2, m), hn::Mul(rest2, g));
  }

  Vec decay, lr, keep1, rest1, keep2, rest2;
};

struct LionBody {
  const LionFactors& factors;
  float* state;

  template <class Elements>
  HWY_INLINE void operator()(Elements& elements, int64_t begin, int64_t end) const {
    const LionVectors rule(factors);
    for (int64_t i = begin; i < end; i += lanes()) {
      const Vec g = elements.gradient(i, end);
      const Vec m = load_in(state, i, end);
      elements.store_value(rule.weight(elements.value(i, end), m, g), i, end);
      store_in(rule.moment(m, g), state, i, end);
    }
  }
};

struct Lion8bitBody {
  const LionFactors& factors;
  const CodedState& state;

  /// `begin` is a multiple of 256.
  template <class Elements>
  HWY_INLINE void operator()(Elements& elements, int64_t begin, int64_t end) const {
    const LionVectors rule(factors);
    for (int64_t first = begin; first < end; first += kCodeBlock) {
      const int64_t count = HWY_MIN(kCodeBlock, end - first);
      CodedBlock<true> moment(state, first / kCodeBlock, count);
      for (int64_t j = 0; j < count; j += lanes()) {
        const int64_t i = first + j;
        const Vec g = elements.gradient(i, end);
        const Vec m = moment.get(j);
        elements.store_value(rule.weight(elements.value(i, end), m, g), i, end);
        moment.set(j, rule.moment(m, g));
      }
      moment.finish();
    }
  }
};

void lion_elements(const Update& update, const LionFactors& factors, float* m, int64_t begin,
                   int64_t end) {
  run_update(update, LionBody{factors, m}, begin, end);
}

void lion_8bit_elements(const Update& update, const LionFactors& factors, const CodedState& m,
                        int64_t begin, int64_t end) {
  run_update(update, Lion8bitBody{factors, m}, begin, end);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace snug {
namespace {

HWY_EXPORT(lion_elements);
HWY_EXPORT(lion_8bit_elements);

LionFactors factors_of(const Update& update, const LionRule& rule) {
  return {.decay = decay_of(update),
          .lr = *update.lr,
          .keep1 = static_cast<float>(rule.beta1),
          .rest1 = static_cast<float>(1 - rule.beta1),
          .keep2 = static_cast<float>(rule.beta2),
          .rest2 = static_cast<float>(1 - rule.beta2)};
}

}  // namespace

void lion(const Update& update, const LionRule& rule, float* m, ThreadPool& pool) {
  check_update_types(update);
  if (skips(update)) return;
  const LionFactors factors = factors_of(update, rule);
  choose_target();
  const auto run = HWY_DYNAMIC_DISPATCH(lion_elements);
  for_blocks(pool, update.count, kUpdateBlock, [&](std::int64_t begin, std::int64_t end, int) {
    run(update, factors, m, begin, end);
  });
}

void lion_8bit(const Update& update, const LionRule& rule, const CodedState& m, ThreadPool& pool) {
  check_update_types(update);
  if (skips(update)) return;
  const LionFactors factors = factors_of(update, rule);
  choose_target();
  const auto run = HWY_DYNAMIC_DISPATCH(lion_8bit_elements);
  for_blocks(pool, update.count, kUpdateBlock, [&](std::int64_t begin, std::int64_t end, int) {
    run(update, factors, m, begin, end);
  });
}

}  // namespace snug
#endif
