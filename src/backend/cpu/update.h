#pragma once
// Updates of a parameter in one pass over weight, gradient and state (Adafactor: three). Each
// operation is rounded to f32 (no fused multiply-add), in the order of the reference, so that every
// back end has the same bits. Element by element, or by fixed blocks where a state has them: no bit
// depends on the threads.

#include <cstdint>
#include <span>

#include "core/dtype.h"
#include "core/philox.h"
#include "core/thread_pool.h"

namespace snug {

/// What every update reads and writes. g = gradient * clip; p is the master if there is one, and
/// the weight is then the nearest to it.
struct Update {
  std::int64_t count = 0;
  DType weight_type = DType::bf16;  ///< bf16 or f32
  void* weight = nullptr;
  float* master = nullptr;            ///< nullptr: the weight itself is p
  DType gradient_type = DType::bf16;  ///< bf16 or f32
  const void* gradient = nullptr;
  const float* lr = nullptr;
  const float* clip = nullptr;          ///< nullptr: 1
  const std::int32_t* apply = nullptr;  ///< 0: nothing changes; nullptr: 1
  double weight_decay = 0;
  /// Not nullptr: a bf16 weight without master is rounded stochastically with the bits of element
  /// first_element + i.
  const RandomStream* rounding = nullptr;
  std::uint64_t first_element = 0;
};

/// AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019) in torch's
/// order:
///   p = p * decay                          decay = 1 - lr * weight_decay
///   m = m + (1 - beta1) * (g - m)
///   v = beta2 * v + (1 - beta2) * (g * g)
///   p = p - step * (m / (sqrt(v) * inverse + eps))
/// with decay, step = lr / correction1, inverse = 1 / sqrt(correction2), 1 - beta1 and 1 - beta2
/// computed in double, then rounded to f32.
struct AdamWRule {
  const float* correction1 = nullptr;  ///< 1 - beta1^t
  const float* correction2 = nullptr;  ///< 1 - beta2^t
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
};
/// m and v in f32, or in bf16, rounded with part + 1 and part + 2 of the weight's stream.
struct AdamWState {
  DType type = DType::f32;
  void* m = nullptr;
  void* v = nullptr;
};
void adamw(const Update& update, const AdamWRule& rule, const AdamWState& state, ThreadPool& pool);

/// A state as 8-bit codes of the dynamic maps (core/dynamic_map.h) of value / absmax, absmax over
/// 256 elements: the nearest, half way the lower; what is below zero never becomes zero.
struct CodedState {
  std::uint8_t* codes = nullptr;
  float* absmax = nullptr;
};
/// The same on codes; the second moment's are of v, or of sqrt(v) when `root`.
struct AdamW8bitState {
  CodedState m;
  CodedState v;
  bool root = false;
};
void adamw_8bit(const Update& update, const AdamWRule& rule, const AdamW8bitState& state,
                ThreadPool& pool);

/// Lion (Chen et al., arXiv 2302.06675):
///   p = p * decay - lr * sign(beta1 * m + (1 - beta1) * g)
///   m = beta2 * m + (1 - beta2) * g
struct LionRule {
  double beta1 = 0.9;
  double beta2 = 0.99;
};
void lion(const Update& update, const LionRule& rule, float* m, ThreadPool& pool);
void lion_8bit(const Update& update, const LionRule& rule, const CodedState& m, ThreadPool& pool);

/// torch's SGD: g = g + weight_decay * p; sum = momentum * sum + g; p = p - lr * direction, the
/// direction being g without a sum, g + momentum * sum with nesterov, else the sum.
struct SgdRule {
  double momentum = 0;
  bool nesterov = false;
};
void sgd(const Update& update, const SgdRule& rule, float* sum, ThreadPool& pool);

/// Adafactor (Shazeer and Stern, arXiv 1804.04235) in one of its two forms (numbers as in
/// transformers.Adafactor and torch.optim.Adafactor).
struct AdafactorRule {
  bool torch = false;
  double eps1 = 1e-30;
  double eps2 = 1e-3;
  double clip_threshold = 1;
  bool scale_parameter = false;
  const float* rate = nullptr;
  const float* rest = nullptr;  ///< weight of the newest squares in the means
};
/// A matrix [rows, columns]: its means; a vector (rows = 1): the squares in `columns`.
struct AdafactorState {
  std::int64_t rows = 1;
  std::int64_t columns = 0;
  float* row_means = nullptr;  ///< nullptr: a vector
  float* column_means = nullptr;
};
/// Bytes of scratch, aligned to 64.
std::int64_t adafactor_scratch(std::int64_t rows, std::int64_t columns);
/// Sums are f32 within 16 rows or a row, then double in order. `update.count` = rows * columns.
void adafactor(const Update& update, const AdafactorRule& rule, const AdafactorState& state,
               std::span<std::byte> scratch, ThreadPool& pool);

}  // namespace snug
