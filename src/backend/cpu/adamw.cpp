#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/adamw.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// The target's code comes after foreach_target.h.
#include <cmath>

#include "backend/cpu/adamw.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/rounding-inl.h"
#include "backend/cpu/simd-inl.h"
#include "core/error.h"

#ifndef SNUG_ADAMW_ONCE
#define SNUG_ADAMW_ONCE
namespace snug {

struct AdamWFactors {
  float clip;
  float decay;
  float step;
  float inverse;
  float rest1;  // 1 - beta1
  float rest2;
};

}  // namespace snug
#endif

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {
namespace {

/// Weight, m and v draw from streams of their own: state 0, 1, 2.
RandomStream state_of(const RandomStream* stream, uint64_t state) {
  RandomStream result = stream != nullptr ? *stream : RandomStream{};
  result.stream += state;
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

template <class W, class G, class S, bool kMaster, bool kRandom>
void update_elements(const AdamW& call, const AdamWFactors& f, int64_t begin, int64_t end) {
  const F32 d;
  const Vec clip = hn::Set(d, f.clip);
  const Vec decay = hn::Set(d, f.decay);
  const Vec step = hn::Set(d, f.step);
  const Vec inverse = hn::Set(d, f.inverse);
  const Vec rest1 = hn::Set(d, f.rest1);
  const Vec rest2 = hn::Set(d, f.rest2);
  const Vec beta2 = hn::Set(d, static_cast<float>(call.beta2));
  const Vec eps = hn::Set(d, static_cast<float>(call.eps));
  auto* weight = static_cast<W*>(call.weight);
  const auto* gradient = static_cast<const G*>(call.gradient);
  auto* first = static_cast<S*>(call.m);
  auto* second = static_cast<S*>(call.v);
  RandomBits weight_bits(state_of(call.rounding, 0));
  RandomBits first_bits(state_of(call.rounding, 1));
  RandomBits second_bits(state_of(call.rounding, 2));
  for (int64_t i = begin; i < end; i += lanes()) {
    const uint64_t element = call.first_element + static_cast<uint64_t>(i);
    const Vec g = hn::Mul(load_in(gradient, i, end), clip);
    Vec m = load_in(first, i, end);
    Vec v = load_in(second, i, end);
    Vec p = kMaster ? load_in(call.master, i, end) : load_in(weight, i, end);
    p = hn::Mul(p, decay);
    m = hn::Add(m, hn::Mul(rest1, hn::Sub(g, m)));
    v = hn::Add(hn::Mul(beta2, v), hn::Mul(rest2, hn::Mul(g, g)));
    const Vec root = hn::Add(hn::Mul(hn::Sqrt(v), inverse), eps);
    p = hn::Sub(p, hn::Mul(step, hn::Div(m, root)));
    store_rounded<kRandom>(m, first, i, end, first_bits, element);
    store_rounded<kRandom>(v, second, i, end, second_bits, element);
    if constexpr (kMaster) {
      store_in(p, call.master, i, end);
      store_in(p, weight, i, end);
    } else {
      store_rounded<kRandom>(p, weight, i, end, weight_bits, element);
    }
  }
}

template <class W, class G, class S>
void update_by_kind(const AdamW& call, const AdamWFactors& f, int64_t begin, int64_t end) {
  const bool random = call.rounding != nullptr;
  if (call.master != nullptr) {
    random ? update_elements<W, G, S, true, true>(call, f, begin, end)
           : update_elements<W, G, S, true, false>(call, f, begin, end);
  } else {
    random ? update_elements<W, G, S, false, true>(call, f, begin, end)
           : update_elements<W, G, S, false, false>(call, f, begin, end);
  }
}

template <class W, class G>
void update_by_state(const AdamW& call, const AdamWFactors& f, int64_t begin, int64_t end) {
  if (call.state_type == DType::f32) {
    update_by_kind<W, G, float>(call, f, begin, end);
  } else {
    update_by_kind<W, G, BFloat16>(call, f, begin, end);
  }
}

template <class W>
void update_by_gradient(const AdamW& call, const AdamWFactors& f, int64_t begin, int64_t end) {
  if (call.gradient_type == DType::f32) {
    update_by_state<W, float>(call, f, begin, end);
  } else {
    update_by_state<W, BFloat16>(call, f, begin, end);
  }
}

void adamw_elements(const AdamW& call, const AdamWFactors& f, int64_t begin, int64_t end) {
  if (call.weight_type == DType::f32) {
    update_by_gradient<float>(call, f, begin, end);
  } else {
    update_by_gradient<BFloat16>(call, f, begin, end);
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

AdamWFactors factors_of(const AdamW& call) {
  const double lr = *call.lr;
  AdamWFactors f{};
  f.clip = call.clip != nullptr ? *call.clip : 1.0F;
  f.decay = static_cast<float>(1 - lr * call.weight_decay);
  f.step = static_cast<float>(lr / static_cast<double>(*call.correction1));
  f.inverse = static_cast<float>(1 / std::sqrt(static_cast<double>(*call.correction2)));
  f.rest1 = static_cast<float>(1 - call.beta1);
  f.rest2 = static_cast<float>(1 - call.beta2);
  return f;
}

void check_type(DType type) {
  check(type == DType::f32 || type == DType::bf16, "AdamW on {}", name_of(type));
}

}  // namespace

void adamw(const AdamW& call, ThreadPool& pool) {
  check_type(call.weight_type);
  check_type(call.gradient_type);
  check_type(call.state_type);
  if (call.apply != nullptr && *call.apply == 0) return;
  const AdamWFactors factors = factors_of(call);
  choose_target();
  const auto run = HWY_DYNAMIC_DISPATCH(adamw_elements);
  for_blocks(pool, call.count, 16384,
             [&](std::int64_t begin, std::int64_t end, int) { run(call, factors, begin, end); });
}

}  // namespace snug
#endif
