#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/adamw.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// The target's code comes after foreach_target.h.
#include "backend/cpu/adamw-inl.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/update-inl.h"

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {
namespace {

template <class S>
struct AdamWBody {
  const Update& update;
  const AdamWFactors& factors;
  const AdamWState& state;

  template <class Elements>
  HWY_INLINE void operator()(Elements& elements, int64_t begin, int64_t end) const {
    const AdamWVectors rule(factors);
    auto* first = static_cast<S*>(state.m);
    auto* second = static_cast<S*>(state.v);
    RandomBits first_bits(stream_of(update, 1));
    RandomBits second_bits(stream_of(update, 2));
    for (int64_t i = begin; i < end; i += lanes()) {
      const Vec g = elements.gradient(i, end);
      const Vec m = rule.first(load_in(first, i, end), g);
      const Vec v = rule.second(load_in(second, i, end), g);
      elements.store_value(rule.weight(elements.value(i, end), m, hn::Sqrt(v)), i, end);
      store_rounded<Elements::kRounds>(m, first, i, end, first_bits, elements.element(i));
      store_rounded<Elements::kRounds>(v, second, i, end, second_bits, elements.element(i));
    }
  }
};

void adamw_elements(const Update& update, const AdamWFactors& factors, const AdamWState& state,
                    int64_t begin, int64_t end) {
  if (state.type == DType::f32) {
    run_update(update, AdamWBody<float>{update, factors, state}, begin, end);
  } else {
    run_update(update, AdamWBody<BFloat16>{update, factors, state}, begin, end);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace snug {
namespace {

HWY_EXPORT(adamw_elements);

}  // namespace

void adamw(const Update& update, const AdamWRule& rule, const AdamWState& state, ThreadPool& pool) {
  check_update_types(update);
  check(state.type == DType::f32 || state.type == DType::bf16, "AdamW's state in {}",
        name_of(state.type));
  if (skips(update)) return;
  const AdamWFactors factors = adamw_factors(update, rule);
  choose_target();
  const auto run = HWY_DYNAMIC_DISPATCH(adamw_elements);
  for_blocks(pool, update.count, kUpdateBlock, [&](std::int64_t begin, std::int64_t end, int) {
    run(update, factors, state, begin, end);
  });
}

}  // namespace snug
#endif
