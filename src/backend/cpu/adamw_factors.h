#pragma once
// AdamW's numbers of a step, rounded to f32 once.

#include <cmath>

#include "backend/cpu/update_blocks.h"

namespace snug {

struct AdamWFactors {
  float decay;
  float step;
  float inverse;
  float rest1;  ///< 1 - beta1
  float rest2;
  float keep2;  ///< beta2
  float eps;
};

inline AdamWFactors adamw_factors(const Update& update, const AdamWRule& rule) {
  const auto lr = static_cast<double>(*update.lr);
  const auto correction1 = static_cast<double>(*rule.correction1);
  const auto correction2 = static_cast<double>(*rule.correction2);
  return {.decay = decay_of(update),
          .step = static_cast<float>(lr / correction1),
          .inverse = static_cast<float>(1 / std::sqrt(correction2)),
          .rest1 = static_cast<float>(1 - rule.beta1),
          .rest2 = static_cast<float>(1 - rule.beta2),
          .keep2 = static_cast<float>(rule.beta2),
          .eps = static_cast<float>(rule.eps)};
}

}  // namespace snug
