#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/norm.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// The target's code comes after foreach_target.h.
#include <algorithm>
#include <cmath>

#include "backend/cpu/gradient_output-inl.h"
#include "backend/cpu/norm.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/scratch.h"
#include "backend/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {
namespace {

HWY_INLINE int64_t row_offset(const NormShape& shape, int64_t row, int64_t stride) {
  return row / shape.groups * stride + row % shape.groups * shape.width;
}

/// 1 / sqrt(mean(x^2) + eps).
template <class T>
HWY_INLINE float inverse_rms(const T* x, int64_t width, float eps) {
  const int64_t n = lanes();
  Vec even = hn::Zero(F32());
  Vec odd = hn::Zero(F32());
  int64_t i = 0;
  for (; i + 2 * n <= width; i += 2 * n) {
    const Vec a = load(x + i);
    const Vec b = load(x + i + n);
    even = hn::MulAdd(a, a, even);
    odd = hn::MulAdd(b, b, odd);
  }
  for (; i < width; i += n) {
    const Vec a = load_in(x, i, width);
    even = hn::MulAdd(a, a, even);
  }
  return 1.0F / std::sqrt(sum_lanes(hn::Add(even, odd)) / static_cast<float>(width) + eps);
}

template <class T, class W>
void forward_rows(const RmsNormForward& call, int64_t begin, int64_t end) {
  const int64_t n = lanes();
  const int64_t width = call.shape.width;
  const auto* weight = static_cast<const W*>(call.weight);
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(call.x) + row_offset(call.shape, row, call.x_stride);
    T* y = static_cast<T*>(call.y) + row_offset(call.shape, row, call.y_stride);
    const Vec rstd = hn::Set(F32(), inverse_rms(x, width, call.shape.eps));
    for (int64_t i = 0; i < width; i += n) {
      const Vec x_hat = hn::Mul(load_in(x, i, width), rstd);
      store_in(hn::Mul(x_hat, load_in(weight, i, width)), y, i, width);
    }
  }
}

/// sums += dy * x_hat.
template <class T>
HWY_INLINE void add_weight_gradient(const T* x, const T* dy, float rstd, int64_t width,
                                    float* sums) {
  const Vec scale = hn::Set(F32(), rstd);
  for (int64_t i = 0; i < width; i += lanes()) {
    const Vec x_hat = hn::Mul(load_in(x, i, width), scale);
    store_in(hn::MulAdd(load_in(dy, i, width), x_hat, load_in(sums, i, width)), sums, i, width);
  }
}

template <class T, class W>
HWY_INLINE void input_gradient(const T* x, const T* dy, const W* weight, float rstd, int64_t width,
                               T* dx) {
  const F32 d;
  Vec sum = hn::Zero(d);
  for (int64_t i = 0; i < width; i += lanes()) {
    const Vec product = hn::Mul(load_in(dy, i, width), load_in(weight, i, width));
    sum = hn::MulAdd(product, load_in(x, i, width), sum);
  }
  const float mean = sum_lanes(sum) * rstd / static_cast<float>(width);
  const Vec scale = hn::Set(d, rstd);
  const Vec back = hn::Set(d, mean);
  for (int64_t i = 0; i < width; i += lanes()) {
    const Vec x_hat = hn::Mul(load_in(x, i, width), scale);
    const Vec product = hn::Mul(load_in(dy, i, width), load_in(weight, i, width));
    store_in(hn::Mul(hn::NegMulAdd(x_hat, back, product), scale), dx, i, width);
  }
}

template <class T, class W>
void backward_rows(const RmsNormBackward& call, int64_t begin, int64_t end, float* sums) {
  const int64_t width = call.shape.width;
  const auto* weight = static_cast<const W*>(call.weight);
  if (sums != nullptr) std::fill_n(sums, width, 0.0F);
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(call.x) + row_offset(call.shape, row, call.x_stride);
    const T* dy = static_cast<const T*>(call.dy) + row_offset(call.shape, row, call.dy_stride);
    const float rstd = inverse_rms(x, width, call.shape.eps);
    if (sums != nullptr) add_weight_gradient(x, dy, rstd, width, sums);
    if (call.dx == nullptr) continue;
    T* dx = static_cast<T*>(call.dx) + row_offset(call.shape, row, call.dx_stride);
    input_gradient(x, dy, weight, rstd, width, dx);
  }
}

void norm_forward_rows(const RmsNormForward& call, int64_t begin, int64_t end) {
  const bool wide_weight = call.shape.weight_type == DType::f32;
  if (call.shape.type == DType::f32) {
    return wide_weight ? forward_rows<float, float>(call, begin, end)
                       : forward_rows<float, BFloat16>(call, begin, end);
  }
  return wide_weight ? forward_rows<BFloat16, float>(call, begin, end)
                     : forward_rows<BFloat16, BFloat16>(call, begin, end);
}

void norm_backward_rows(const RmsNormBackward& call, int64_t begin, int64_t end, float* sums) {
  const bool wide_weight = call.shape.weight_type == DType::f32;
  if (call.shape.type == DType::f32) {
    return wide_weight ? backward_rows<float, float>(call, begin, end, sums)
                       : backward_rows<float, BFloat16>(call, begin, end, sums);
  }
  return wide_weight ? backward_rows<BFloat16, float>(call, begin, end, sums)
                     : backward_rows<BFloat16, BFloat16>(call, begin, end, sums);
}

/// Adds up `parts` rows of partial sums in order, in place in the first, for columns [begin, end).
void norm_add_parts(const GradientOutput& out, float* sums, int64_t parts, int64_t stride,
                    int64_t begin, int64_t end) {
  for (int64_t part = 1; part < parts; ++part) {
    const float* from = sums + part * stride;
    for (int64_t i = begin; i < end; i += lanes()) {
      store_in(hn::Add(load_in(sums, i, end), load_in(from, i, end)), sums, i, end);
    }
  }
  write_gradient(out, begin, sums + begin, end - begin);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace snug {
namespace {

HWY_EXPORT(norm_forward_rows);
HWY_EXPORT(norm_backward_rows);
HWY_EXPORT(norm_add_parts);

constexpr std::int64_t kBlock = 128;

std::int64_t part_stride(const NormShape& shape) { return round_up(shape.width, 16); }
std::int64_t part_count(const NormShape& shape) { return (shape.rows() + kBlock - 1) / kBlock; }

void check_types(const NormShape& shape) {
  check((shape.type == DType::f32 || shape.type == DType::bf16) &&
            (shape.weight_type == DType::f32 || shape.weight_type == DType::bf16),
        "norm of {} by {}", name_of(shape.type), name_of(shape.weight_type));
}

}  // namespace

void rms_norm_forward(const RmsNormForward& call, ThreadPool& pool) {
  check_types(call.shape);
  choose_target();
  const auto rows = HWY_DYNAMIC_DISPATCH(norm_forward_rows);
  for_blocks(pool, call.shape.rows(), rows_per_block(call.shape.width),
             [&](std::int64_t begin, std::int64_t end, int) { rows(call, begin, end); });
}

std::int64_t rms_norm_backward_scratch(const NormShape& shape) {
  return scratch_bytes(std::max<std::int64_t>(1, part_count(shape)) * part_stride(shape),
                       sizeof(float));
}

void rms_norm_backward(const RmsNormBackward& call, std::span<std::byte> scratch,
                       ThreadPool& pool) {
  check_types(call.shape);
  choose_target();
  const std::int64_t stride = part_stride(call.shape);
  const std::int64_t parts = part_count(call.shape);
  float* sums = nullptr;
  if (call.dw != nullptr) {
    sums = Scratch(scratch).take<float>(std::max<std::int64_t>(1, parts) * stride);
    if (parts == 0) std::fill_n(sums, stride, 0.0F);
  }
  const auto rows = HWY_DYNAMIC_DISPATCH(norm_backward_rows);
  for_blocks(pool, call.shape.rows(), kBlock, [&](std::int64_t begin, std::int64_t end, int) {
    rows(call, begin, end, sums == nullptr ? nullptr : sums + begin / kBlock * stride);
  });
  if (call.dw == nullptr) return;
  const auto add_parts = HWY_DYNAMIC_DISPATCH(norm_add_parts);
  for_blocks(pool, call.shape.width, 256, [&](std::int64_t begin, std::int64_t end, int) {
    add_parts(*call.dw, sums, parts, stride, begin, end);
  });
}

}  // namespace snug
#endif
