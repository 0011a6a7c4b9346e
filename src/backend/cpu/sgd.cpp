#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/sgd.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// The target's code comes after foreach_target.h.
#include "backend/cpu/parallel.h"
#include "backend/cpu/update-inl.h"
#include "backend/cpu/update_blocks.h"

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {
namespace {

struct SgdBody {
  const Update& update;
  const SgdRule& rule;
  float* sum;

  template <class Elements>
  HWY_INLINE void operator()(Elements& elements, int64_t begin, int64_t end) const {
    const F32 d;
    const Vec decay = hn::Set(d, static_cast<float>(update.weight_decay));
    const Vec lr = hn::Set(d, *update.lr);
    const Vec momentum = hn::Set(d, static_cast<float>(rule.momentum));
    for (int64_t i = begin; i < end; i += lanes()) {
      const Vec p = elements.value(i, end);
      const Vec g = hn::Add(elements.gradient(i, end), hn::Mul(decay, p));
      Vec direction = g;
      if (sum != nullptr) {
        const Vec summed = hn::Add(hn::Mul(momentum, load_in(sum, i, end)), g);
        store_in(summed, sum, i, end);
        direction = rule.nesterov ? hn::Add(g, hn::Mul(momentum, summed)) : summed;
      }
      elements.store_value(hn::Sub(p, hn::Mul(lr, direction)), i, end);
    }
  }
};

void sgd_elements(const Update& update, const SgdRule& rule, float* sum, int64_t begin,
                  int64_t end) {
  run_update(update, SgdBody{update, rule, sum}, begin, end);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace snug {
namespace {

HWY_EXPORT(sgd_elements);

}  // namespace

void sgd(const Update& update, const SgdRule& rule, float* sum, ThreadPool& pool) {
  check_update_types(update);
  if (skips(update)) return;
  choose_target();
  const auto run = HWY_DYNAMIC_DISPATCH(sgd_elements);
  for_blocks(pool, update.count, kUpdateBlock, [&](std::int64_t begin, std::int64_t end, int) {
    run(update, rule, sum, begin, end);
  });
}

}  // namespace snug
#endif
