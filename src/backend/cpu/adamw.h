#pragma once
// AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019) in torch's
// order: one pass over weight, gradient and state.

#include <cstdint>

#include "core/dtype.h"
#include "core/philox.h"
#include "core/thread_pool.h"

namespace snug {

/// For every element, each operation rounded to f32 (no fused multiply-add), so that any back end
/// that does the same has the same bits:
///   g = gradient * clip
///   p = p * decay                          decay = 1 - lr * weight_decay
///   m = m + (1 - beta1) * (g - m)
///   v = beta2 * v + (1 - beta2) * (g * g)
///   p = p - step * (m / (sqrt(v) * inverse + eps))
/// with decay, step = lr / correction1, inverse = 1 / sqrt(correction2), 1 - beta1 and 1 - beta2
/// computed in double, then rounded to f32. p is the master if there is one, and the weight is then
/// the nearest to it.
struct AdamW {
  std::int64_t count = 0;
  DType weight_type = DType::bf16;  ///< bf16 or f32
  void* weight = nullptr;
  float* master = nullptr;            ///< nullptr: the weight itself is p
  DType gradient_type = DType::bf16;  ///< bf16 or f32
  const void* gradient = nullptr;
  DType state_type = DType::f32;  ///< of m and v: bf16 or f32
  void* m = nullptr;
  void* v = nullptr;
  const float* lr = nullptr;
  const float* correction1 = nullptr;   ///< 1 - beta1^t
  const float* correction2 = nullptr;   ///< 1 - beta2^t
  const float* clip = nullptr;          ///< nullptr: 1
  const std::int32_t* apply = nullptr;  ///< 0: nothing changes; nullptr: 1
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  /// Not nullptr: what is stored in bf16 without a master is rounded stochastically with the bits
  /// of element first_element + i: the weight with this stream, m and v with the next two.
  const RandomStream* rounding = nullptr;
  std::uint64_t first_element = 0;
};

/// Element by element: no bit depends on the threads or on how a tensor is cut.
void adamw(const AdamW& call, ThreadPool& pool);

}  // namespace snug
