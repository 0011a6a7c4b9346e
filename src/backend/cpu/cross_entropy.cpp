#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/cross_entropy.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// The target's code comes after foreach_target.h.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/cross_entropy.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd-inl.h"
#include "core/error.h"

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {
namespace {

HWY_INLINE float largest(const float* z, int64_t count) {
  const F32 d;
  const int64_t n = lanes();
  const Vec lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  Vec max = lowest;
  int64_t i = 0;
  for (; i + n <= count; i += n) max = hn::Max(max, load(z + i));
  if (i < count) {
    const auto mask = hn::FirstN(d, static_cast<size_t>(count - i));
    max = hn::Max(max, hn::IfThenElse(mask, load_some(z + i, count - i), lowest));
  }
  return hn::GetLane(hn::MaxOfLanes(d, max));
}

HWY_INLINE float sum_of_exp(const float* z, int64_t count, float max) {
  const F32 d;
  const int64_t n = lanes();
  const Vec base = hn::Set(d, max);
  Vec even = hn::Zero(d);
  Vec odd = hn::Zero(d);
  int64_t i = 0;
  for (; i + 2 * n <= count; i += 2 * n) {
    even = hn::Add(even, exp_f32(hn::Sub(load(z + i), base)));
    odd = hn::Add(odd, exp_f32(hn::Sub(load(z + i + n), base)));
  }
  for (; i < count; i += n) {
    const auto mask = hn::FirstN(d, static_cast<size_t>(std::min(n, count - i)));
    const Vec e = exp_f32(hn::Sub(load_in(z, i, count), base));
    even = hn::Add(even, hn::IfThenElseZero(mask, e));
  }
  return sum_lanes(hn::Add(even, odd));
}

void softmax_rows(const LogitsBlock& logits, SoftmaxState* states, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    if (logits.labels[row] < 0) continue;
    const float* z = logits.data + row * logits.stride;
    SoftmaxState& state = states[row];
    const float max = std::max(state.max, largest(z, logits.classes));
    const float before = state.sum == 0 ? 0 : state.sum * std::exp(state.max - max);
    state.sum = before + sum_of_exp(z, logits.classes, max);
    state.max = max;
    const int64_t label = logits.labels[row] - logits.first_class;
    if (label >= 0 && label < logits.classes) state.label = z[label];
  }
}

template <class T>
void gradient_rows_of(const LogitsBlock& logits, const SoftmaxState* states, float weight,
                      RowsOut dz, int64_t begin, int64_t end) {
  const F32 d;
  const int64_t classes = logits.classes;
  const Vec by = hn::Set(d, weight);
  for (int64_t row = begin; row < end; ++row) {
    T* to = dz.row<T>(row);
    if (logits.labels[row] < 0) {
      std::fill_n(to, classes, T{});
      continue;
    }
    const float* z = logits.data + row * logits.stride;
    const int64_t label = logits.labels[row] - logits.first_class;
    const bool here = label >= 0 && label < classes;
    const float log_sum = states[row].max + std::log(states[row].sum);
    const float at_label = here ? (std::exp(z[label] - log_sum) - 1.0F) * weight : 0.0F;
    const Vec base = hn::Set(d, log_sum);
    for (int64_t i = 0; i < classes; i += lanes()) {
      store_in(hn::Mul(exp_f32(hn::Sub(load_in(z, i, classes), base)), by), to, i, classes);
    }
    if (here) to[label] = T(at_label);
  }
}

void cross_entropy_gradient_rows(const LogitsBlock& logits, const SoftmaxState* states,
                                 float weight, DType type, RowsOut dz, int64_t begin, int64_t end) {
  if (type == DType::f32) {
    gradient_rows_of<float>(logits, states, weight, dz, begin, end);
  } else {
    gradient_rows_of<BFloat16>(logits, states, weight, dz, begin, end);
  }
}

void softmax_gradient_rows(const LogitsBlock& logits, SoftmaxState* states, float weight,
                           DType type, RowsOut dz, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    softmax_rows(logits, states, row, row + 1);
    cross_entropy_gradient_rows(logits, states, weight, type, dz, row, row + 1);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace snug {

HWY_EXPORT(softmax_rows);
HWY_EXPORT(cross_entropy_gradient_rows);
HWY_EXPORT(softmax_gradient_rows);

void softmax_start(SoftmaxState* states, std::int64_t rows) {
  std::fill_n(states, rows, SoftmaxState{-std::numeric_limits<float>::infinity(), 0, 0});
}

void softmax_update(const LogitsBlock& logits, SoftmaxState* states, ThreadPool& pool) {
  choose_target();
  const auto run = HWY_DYNAMIC_DISPATCH(softmax_rows);
  for_blocks(pool, logits.rows, rows_per_block(logits.classes),
             [&](std::int64_t begin, std::int64_t end, int) { run(logits, states, begin, end); });
}

float log_sum_exp(const SoftmaxState& state) { return state.max + std::log(state.sum); }

double cross_entropy(const SoftmaxState* states, const std::int32_t* labels, std::int64_t rows) {
  double sum = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    if (labels[row] >= 0) sum += static_cast<double>(log_sum_exp(states[row]) - states[row].label);
  }
  return sum;
}

void cross_entropy_gradient(const LogitsBlock& logits, const SoftmaxState* states, float weight,
                            DType type, RowsOut dz, ThreadPool& pool) {
  check(type == DType::f32 || type == DType::bf16, "logit gradient in {}", name_of(type));
  choose_target();
  const auto run = HWY_DYNAMIC_DISPATCH(cross_entropy_gradient_rows);
  for_blocks(pool, logits.rows, rows_per_block(logits.classes),
             [&](std::int64_t begin, std::int64_t end, int) {
               run(logits, states, weight, type, dz, begin, end);
             });
}

void softmax_gradient(const LogitsBlock& logits, SoftmaxState* states, float weight, DType type,
                      RowsOut dz, ThreadPool& pool) {
  check(type == DType::f32 || type == DType::bf16, "logit gradient in {}", name_of(type));
  choose_target();
  const auto run = HWY_DYNAMIC_DISPATCH(softmax_gradient_rows);
  for_blocks(pool, logits.rows, rows_per_block(logits.classes),
             [&](std::int64_t begin, std::int64_t end, int) {
               run(logits, states, weight, type, dz, begin, end);
             });
}

}  // namespace snug
#endif
