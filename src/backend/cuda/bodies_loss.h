#pragma once
// Softmax, cross-entropy and their gradient over tiles of logits.

#include "backend/cuda/view.h"

namespace snug::cuda {

/// What is known of a row's softmax after some tiles of classes.
struct SoftmaxState {
  float peak;
  float sum;  ///< of exp(z - peak)
  float label_logit;
};

/// Takes a tile [rows, classes] of logits into the rows' states.
struct SoftmaxTile {
  const float* z;
  const std::int32_t* labels;  ///< of the chunk's rows
  SoftmaxState* states;
  std::int64_t classes, begin;  ///< of the tile
  bool first;
  template <class Team>
  SNUG_HD void operator()(Team& team, std::int64_t row) const {
    const std::int64_t label = labels[row];
    if (label < 0) return;
    const float* logits = z + row * classes;
    SoftmaxState state = first ? SoftmaxState{-INFINITY, 0.0F, NAN} : states[row];
    // Each member brings its sum to its own highest logit so far: one pass over memory.
    float own = state.peak;
    float sum = 0.0F;
    for (std::int64_t c = team.rank(); c < classes; c += team.size()) {
      const float logit = logits[c];
      if (logit > own) {
        sum *= expf(own - logit);
        own = logit;
      }
      sum += logit == own ? 1.0F : expf(logit - own);
    }
    const float peak = team.max(own);
    sum = team.sum(sum > 0.0F ? sum * expf(own - peak) : sum);
    if (team.rank() != 0) return;
    if (state.sum > 0.0F) sum += state.sum * expf(state.peak - peak);
    state.peak = peak;
    state.sum = sum;
    if (label >= begin && label < begin + classes) state.label_logit = logits[label - begin];
    states[row] = state;
  }
};

/// The cross-entropy of each row of a chunk; 0 where there is no label.
struct RowLoss {
  const SoftmaxState* states;
  const std::int32_t* labels;
  float* losses;
  SNUG_HD void operator()(std::int64_t row) const {
    const SoftmaxState state = states[row];
    losses[row] = labels[row] < 0 ? 0.0F : state.peak + logf(state.sum) - state.label_logit;
  }
};

struct SumOfLosses {
  const float* losses;
  std::int64_t count;
  View loss;
  template <class Team>
  SNUG_HD void operator()(Team& team, std::int64_t) const {
    double sum = 0.0;
    for (std::int64_t i = team.rank(); i < count; i += team.size()) {
      sum += static_cast<double>(losses[i]);
    }
    sum = team.sum(sum);
    if (team.rank() == 0) loss.set(0, static_cast<float>(sum));
  }
};

/// weight (softmax - one_hot), 0 where there is no label, of a tile; into dz, which may be z. A
/// team a row.
struct LogitGradient {
  const float* z;
  View dz;
  const SoftmaxState* states;
  const std::int32_t* labels;
  const float* weight;
  std::int64_t classes, begin;
  template <class Team>
  SNUG_HD void operator()(Team& team, std::int64_t row) const {
    const std::int64_t label = labels[row];
    const std::int64_t first = row * classes;
    if (label < 0) {
      for (std::int64_t c = team.rank(); c < classes; c += team.size()) dz.set(first + c, 0.0F);
      return;
    }
    const float total = states[row].peak + logf(states[row].sum);
    const float factor = *weight;
    for (std::int64_t c = team.rank(); c < classes; c += team.size()) {
      const float softmax = expf(z[first + c] - total);
      dz.set(first + c, factor * (softmax - (label == begin + c ? 1.0F : 0.0F)));
    }
  }
};

}  // namespace snug::cuda
