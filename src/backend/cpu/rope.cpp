#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/rope.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// The target's code comes after foreach_target.h.
#include <cmath>
#include <numbers>

#include "backend/cpu/parallel.h"
#include "backend/cpu/rope.h"
#include "backend/cpu/simd-inl.h"
#include "core/error.h"

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {
namespace {

template <class T>
void rotate_tokens(const Rope& call, int64_t begin, int64_t end) {
  const int64_t half = call.head_dim / 2;
  const Vec sign = hn::Set(F32(), call.inverse ? -1.0F : 1.0F);
  for (int64_t token = begin; token < end; ++token) {
    const float* cos = call.cos + call.positions[token] * half;
    const float* sin = call.sin + call.positions[token] * half;
    const T* x = static_cast<const T*>(call.x) + token * call.x_stride;
    T* y = static_cast<T*>(call.y) + token * call.y_stride;
    for (int64_t h = 0; h < call.heads; ++h, x += call.head_dim, y += call.head_dim) {
      for (int64_t i = 0; i < half; i += lanes()) {
        const Vec c = load_in(cos, i, half);
        const Vec s = hn::Mul(load_in(sin, i, half), sign);
        const Vec first = load_in(x, i, half);
        const Vec second = load_in(x + half, i, half);
        store_in(hn::NegMulAdd(second, s, hn::Mul(first, c)), y, i, half);
        store_in(hn::MulAdd(first, s, hn::Mul(second, c)), y + half, i, half);
      }
    }
  }
}

void rope_tokens(const Rope& call, int64_t begin, int64_t end) {
  if (call.type == DType::f32) {
    rotate_tokens<float>(call, begin, end);
  } else {
    rotate_tokens<BFloat16>(call, begin, end);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace snug {
namespace {

HWY_EXPORT(rope_tokens);

// Radians per position of pair i. llama3: "Llama 3.1" model card, as in transformers.
double frequency(const RopeTable& table, std::int64_t i) {
  const double plain =
      std::pow(table.theta, -2.0 * static_cast<double>(i) / static_cast<double>(table.head_dim));
  if (table.scaling == RopeScaling::none) return plain;
  if (table.scaling == RopeScaling::linear) return plain / table.factor;
  const double turns = table.original_max_positions * plain / (2 * std::numbers::pi);
  if (turns > table.high_freq_factor) return plain;
  if (turns < table.low_freq_factor) return plain / table.factor;
  const double smooth =
      (turns - table.low_freq_factor) / (table.high_freq_factor - table.low_freq_factor);
  return (1 - smooth) * plain / table.factor + smooth * plain;
}

}  // namespace

void rope(const Rope& call, ThreadPool& pool) {
  check(call.type == DType::f32 || call.type == DType::bf16, "rope of {}", name_of(call.type));
  check(call.head_dim % 2 == 0, "rope of heads of {}", call.head_dim);
  for (std::int64_t t = 0; t < call.tokens; ++t) {
    check(call.positions[t] >= 0 && call.positions[t] < call.max_positions,
          "position {} of token {} is not in a table of {}", call.positions[t], t,
          call.max_positions);
  }
  choose_target();
  const auto tokens = HWY_DYNAMIC_DISPATCH(rope_tokens);
  for_blocks(pool, call.tokens, rows_per_block(call.heads * call.head_dim),
             [&](std::int64_t begin, std::int64_t end, int) { tokens(call, begin, end); });
}

void rope_table(const RopeTable& table, float* cos, float* sin, ThreadPool& pool) {
  const std::int64_t half = table.head_dim / 2;
  for_blocks(pool, half, 1, [&](std::int64_t i, std::int64_t, int) {
    const double step = frequency(table, i);
    for (std::int64_t p = 0; p < table.positions; ++p) {
      const double angle = static_cast<double>(p) * step;
      cos[p * half + i] = static_cast<float>(std::cos(angle));
      sin[p * half + i] = static_cast<float>(std::sin(angle));
    }
  });
}

}  // namespace snug
#endif
