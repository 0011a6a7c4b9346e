#pragma once
// Softmax and cross-entropy over blocks of logits: the pieces of a head whose logits are never held
// as a whole. Rows with a negative label are ignored: loss 0, gradient 0.

#include <cstdint>

#include "backend/cpu/rows.h"
#include "core/dtype.h"
#include "core/thread_pool.h"

namespace snug {

/// f32 logits of `rows` tokens for the classes first_class .. first_class + classes - 1.
struct LogitsBlock {
  std::int64_t rows = 0;
  std::int64_t classes = 0;
  std::int64_t first_class = 0;
  const float* data = nullptr;
  std::int64_t stride = 0;
  const std::int32_t* labels = nullptr;  ///< [rows]
};

/// Per row, over the classes seen so far; starts at {-infinity, 0, 0}.
struct SoftmaxState {
  float max = 0;
  float sum = 0;    ///< of e^(z - max)
  float label = 0;  ///< the label's logit
};

/// The state of rows of which no class has been seen.
void softmax_start(SoftmaxState* states, std::int64_t rows);

/// Takes a block into states [rows]. A row's bits depend on the row and the cut into blocks alone.
void softmax_update(const LogitsBlock& logits, SoftmaxState* states, ThreadPool& pool);

/// max + log(sum), once all classes have been seen.
float log_sum_exp(const SoftmaxState& state);

/// Sum of the rows' cross-entropies in double, in order; labels [rows].
double cross_entropy(const SoftmaxState* states, const std::int32_t* labels, std::int64_t rows);

/// dz = (e^(z - lse) - [class is the label]) * weight of one block, with the states of all classes;
/// `type` bf16 or f32. A row of dz may begin where its logits begin.
void cross_entropy_gradient(const LogitsBlock& logits, const SoftmaxState* states, float weight,
                            DType type, RowsOut dz, ThreadPool& pool);

/// softmax_update() and cross_entropy_gradient() of a block of all classes, row by row.
void softmax_gradient(const LogitsBlock& logits, SoftmaxState* states, float weight, DType type,
                      RowsOut dz, ThreadPool& pool);

}  // namespace snug
