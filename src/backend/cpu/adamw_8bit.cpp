#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/adamw_8bit.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// The target's code comes after foreach_target.h.
#include "backend/cpu/adamw-inl.h"
#include "backend/cpu/codes-inl.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/update-inl.h"

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {
namespace {

template <bool kRoot>
struct AdamW8bitBody {
  const AdamWFactors& factors;
  const AdamW8bitState& state;

  /// `begin` is a multiple of 256.
  template <class Elements>
  HWY_INLINE void operator()(Elements& elements, int64_t begin, int64_t end) const {
    const AdamWVectors rule(factors);
    for (int64_t first = begin; first < end; first += kCodeBlock) {
      const int64_t count = HWY_MIN(kCodeBlock, end - first);
      CodedBlock<true> moment(state.m, first / kCodeBlock, count);
      CodedBlock<false> square(state.v, first / kCodeBlock, count);
      for (int64_t j = 0; j < count; j += lanes()) {
        const int64_t i = first + j;
        const Vec g = elements.gradient(i, end);
        const Vec stored = square.get(j);
        const Vec m = rule.first(moment.get(j), g);
        const Vec v = rule.second(kRoot ? hn::Mul(stored, stored) : stored, g);
        const Vec root = hn::Sqrt(v);
        elements.store_value(rule.weight(elements.value(i, end), m, root), i, end);
        moment.set(j, m);
        square.set(j, kRoot ? root : v);
      }
      moment.finish();
      square.finish();
    }
  }
};

void adamw_8bit_elements(const Update& update, const AdamWFactors& factors,
                         const AdamW8bitState& state, int64_t begin, int64_t end) {
  if (state.root) {
    run_update(update, AdamW8bitBody<true>{factors, state}, begin, end);
  } else {
    run_update(update, AdamW8bitBody<false>{factors, state}, begin, end);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace snug {
namespace {

HWY_EXPORT(adamw_8bit_elements);

}  // namespace

void adamw_8bit(const Update& update, const AdamWRule& rule, const AdamW8bitState& state,
                ThreadPool& pool) {
  check_update_types(update);
  if (skips(update)) return;
  const AdamWFactors factors = adamw_factors(update, rule);
  choose_target();
  const auto run = HWY_DYNAMIC_DISPATCH(adamw_8bit_elements);
  for_blocks(pool, update.count, kUpdateBlock, [&](std::int64_t begin, std::int64_t end, int) {
    run(update, factors, state, begin, end);
  });
}

}  // namespace snug
#endif
