#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/swiglu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// The target's code comes after foreach_target.h.
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd-inl.h"
#include "backend/cpu/swiglu.h"
#include "core/error.h"

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {
namespace {

HWY_INLINE Vec sigmoid(Vec x) {
  const Vec one = hn::Set(F32(), 1.0F);
  return hn::Div(one, hn::Add(one, exp_f32(hn::Neg(x))));
}

template <class T>
void forward_rows(const SiluMul& call, int64_t begin, int64_t end) {
  const int64_t columns = call.columns;
  for (int64_t row = begin; row < end; ++row) {
    const T* gate = call.gate.row<T>(row);
    const T* up = call.up.row<T>(row);
    T* y = call.y.row<T>(row);
    for (int64_t i = 0; i < columns; i += lanes()) {
      const Vec g = load_in(gate, i, columns);
      store_in(hn::Mul(hn::Mul(g, sigmoid(g)), load_in(up, i, columns)), y, i, columns);
    }
  }
}

template <class T>
void backward_rows(const SiluMulGrad& call, int64_t begin, int64_t end) {
  const Vec one = hn::Set(F32(), 1.0F);
  const int64_t columns = call.columns;
  for (int64_t row = begin; row < end; ++row) {
    const T* gate = call.gate.row<T>(row);
    const T* up = call.up.row<T>(row);
    const T* dy = call.dy.row<T>(row);
    T* dgate = call.dgate.row<T>(row);
    T* dup = call.dup.row<T>(row);
    for (int64_t i = 0; i < columns; i += lanes()) {
      const Vec g = load_in(gate, i, columns);
      const Vec u = load_in(up, i, columns);
      const Vec grad = load_in(dy, i, columns);
      const Vec s = sigmoid(g);
      const Vec slope = hn::Mul(s, hn::MulAdd(g, hn::Sub(one, s), one));
      store_in(hn::Mul(hn::Mul(grad, u), slope), dgate, i, columns);
      store_in(hn::Mul(grad, hn::Mul(g, s)), dup, i, columns);
    }
  }
}

void silu_mul_rows(const SiluMul& call, int64_t begin, int64_t end) {
  if (call.type == DType::f32) {
    forward_rows<float>(call, begin, end);
  } else {
    forward_rows<BFloat16>(call, begin, end);
  }
}

void silu_mul_grad_rows(const SiluMulGrad& call, int64_t begin, int64_t end) {
  if (call.type == DType::f32) {
    backward_rows<float>(call, begin, end);
  } else {
    backward_rows<BFloat16>(call, begin, end);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace snug {

HWY_EXPORT(silu_mul_rows);
HWY_EXPORT(silu_mul_grad_rows);

void silu_mul(const SiluMul& call, ThreadPool& pool) {
  check(call.type == DType::f32 || call.type == DType::bf16, "silu of {}", name_of(call.type));
  choose_target();
  const auto rows = HWY_DYNAMIC_DISPATCH(silu_mul_rows);
  for_blocks(pool, call.rows, rows_per_block(call.columns),
             [&](std::int64_t begin, std::int64_t end, int) { rows(call, begin, end); });
}

void silu_mul_grad(const SiluMulGrad& call, ThreadPool& pool) {
  check(call.type == DType::f32 || call.type == DType::bf16, "silu of {}", name_of(call.type));
  choose_target();
  const auto rows = HWY_DYNAMIC_DISPATCH(silu_mul_grad_rows);
  for_blocks(pool, call.rows, rows_per_block(call.columns),
             [&](std::int64_t begin, std::int64_t end, int) { rows(call, begin, end); });
}

}  // namespace snug
#endif
