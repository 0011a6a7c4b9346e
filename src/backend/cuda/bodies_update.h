#pragma once
// Updates, each operation rounded to f32 in the order of the reference back end, so that every back
// end has the same bits (backend/cpu/update.h has the formulas and their sources). Compiled without
// fused multiply-add.

#include "backend/cuda/view.h"

namespace snug::cuda {

/// Elements that share an absmax (ir/op.h: kCodeBlock).
inline constexpr std::int64_t kUpdateBlock = 256;

/// What all updates read and write.
struct Weights {
  View weight, gradient, master;
  const float* lr;
  const float* clip;          ///< nullptr: 1
  const std::int32_t* apply;  ///< nullptr: 1
  Rounding rounding;
  double weight_decay;

  SNUG_HD bool skipped() const { return apply != nullptr && *apply == 0; }
  SNUG_HD float gradient_of(std::int64_t i) const {
    return gradient.get(i) * (clip != nullptr ? *clip : 1.0F);
  }
  SNUG_HD float value(std::int64_t i) const {
    return master.present() ? master.get(i) : weight.get(i);
  }
  SNUG_HD void set(std::int64_t i, float value) const {
    if (master.present()) {
      master.set(i, value);
      weight.set(i, value);
    } else {
      store(weight, i, value, rounding, i);
    }
  }
  /// 1 - factor * weight_decay, rounded once.
  SNUG_HD float decay(double factor) const {
    return static_cast<float>(1.0 - factor * weight_decay);
  }
};

/// AdamW's numbers of a step.
struct AdamWNumbers {
  float decay, step, inverse, eps, rest1, rest2, keep2;
  SNUG_HD float first(float m, float g) const { return m + rest1 * (g - m); }
  SNUG_HD float second(float v, float g) const { return keep2 * v + rest2 * (g * g); }
  SNUG_HD float weight(float p, float m, float root) const {
    return p * decay - step * (m / (root * inverse + eps));
  }
};

struct AdamWRule {
  const float* correction1;
  const float* correction2;
  double beta1, beta2, eps;
  SNUG_HD AdamWNumbers numbers(const Weights& weights) const {
    const auto lr = static_cast<double>(*weights.lr);
    AdamWNumbers n;
    n.decay = weights.decay(lr);
    n.step = static_cast<float>(lr / static_cast<double>(*correction1));
    n.inverse = static_cast<float>(1.0 / ::sqrt(static_cast<double>(*correction2)));
    n.eps = static_cast<float>(eps);
    n.rest1 = static_cast<float>(1.0 - beta1);
    n.rest2 = static_cast<float>(1.0 - beta2);
    n.keep2 = static_cast<float>(beta2);
    return n;
  }
};

struct AdamW {
  Weights weights;
  AdamWRule rule;
  View m, v;
  SNUG_HD AdamWNumbers start() const { return rule.numbers(weights); }
  SNUG_HD void operator()(const AdamWNumbers& n, std::int64_t i) const {
    if (weights.skipped()) return;
    const float g = weights.gradient_of(i);
    const float moment = n.first(m.get(i), g);
    const float square = n.second(v.get(i), g);
    weights.set(i, n.weight(weights.value(i), moment, sqrtf(square)));
    store(m, i, moment, weights.rounding, i, 1);
    store(v, i, square, weights.rounding, i, 2);
  }
};

/// What the codes of an 8-bit state stand for, at hand for all threads of a block.
struct CodeMap {
  float of[256];
};

/// An 8-bit state: codes of a dynamic map and the largest magnitude of each block.
struct Coded {
  std::uint8_t* codes;
  float* absmax;
  bool with_sign;
  CodeMap map;

  SNUG_HD void fill(CodeMap& to, int rank, int size) const {
    for (int i = rank; i < 256; i += size) to.of[i] = map.of[i];
  }
  SNUG_HD float get(const CodeMap& at_hand, std::int64_t i) const {
    return at_hand.of[codes[i]] * absmax[i / kUpdateBlock];
  }
  /// The nearest, half way the lower; what is below zero never becomes zero.
  SNUG_HD std::uint8_t code_of(const CodeMap& at_hand, float value) const {
    constexpr int kZero = 127;
    int low = 0;  // the first entry that is not below the value
    int high = 256;
    while (low < high) {
      const int middle = (low + high) / 2;
      if (at_hand.of[middle] < value) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    int code = low == 256 ? 255 : low;
    if (low > 0 && low < 256 && value <= (at_hand.of[low - 1] + at_hand.of[low]) / 2.0F) {
      code = low - 1;
    }
    if (with_sign && value < 0 && code == kZero) code = kZero - 1;
    return static_cast<std::uint8_t>(code);
  }
};

/// The divisor of a block's values.
SNUG_HD inline float divisor_of(float largest) {
  constexpr float kSmallest = 1.17549435e-38F;
  return largest > kSmallest ? largest : kSmallest;
}

/// A block of 256 elements a team: once for the new states' largest, once to store. A member reads
/// an element's old state before it overwrites it.
struct AdamW8bit {
  struct Tables {
    CodeMap m, v;
  };
  Weights weights;
  AdamWRule rule;
  Coded m, v;
  bool root;
  SNUG_HD void fill(Tables& maps, int rank, int size) const {
    m.fill(maps.m, rank, size);
    v.fill(maps.v, rank, size);
  }
  template <class Team>
  SNUG_HD void operator()(Team& team, const Tables& maps, std::int64_t block) const {
    if (weights.skipped()) return;
    const AdamWNumbers n = rule.numbers(weights);
    const std::int64_t begin = block * kUpdateBlock;
    const std::int64_t left = weights.weight.size - begin;
    const std::int64_t end = begin + (left < kUpdateBlock ? left : kUpdateBlock);
    float most_m = 0.0F;
    float most_v = 0.0F;
    for (std::int64_t i = begin + team.rank(); i < end; i += team.size()) {
      const float g = weights.gradient_of(i);
      most_m = fmaxf(most_m, fabsf(n.first(m.get(maps.m, i), g)));
      const float square = n.second(old_square(maps, i), g);
      most_v = fmaxf(most_v, root ? sqrtf(square) : square);
    }
    most_m = team.max(most_m);
    most_v = team.max(most_v);
    for (std::int64_t i = begin + team.rank(); i < end; i += team.size()) {
      const float g = weights.gradient_of(i);
      const float moment = n.first(m.get(maps.m, i), g);
      const float square = n.second(old_square(maps, i), g);
      const float side = sqrtf(square);
      weights.set(i, n.weight(weights.value(i), moment, side));
      m.codes[i] = m.code_of(maps.m, moment / divisor_of(most_m));
      v.codes[i] = v.code_of(maps.v, (root ? side : square) / divisor_of(most_v));
    }
    team.sync();  // the old absmax has been read by all
    if (team.rank() == 0) {
      m.absmax[block] = most_m;
      v.absmax[block] = most_v;
    }
  }
  SNUG_HD float old_square(const Tables& maps, std::int64_t i) const {
    const float stored = v.get(maps.v, i);
    return root ? stored * stored : stored;
  }
};

/// Lion's numbers of a step.
struct LionNumbers {
  float decay, rate, keep1, rest1, keep2, rest2;
  SNUG_HD float weight(float p, float m, float g) const {
    const float direction = keep1 * m + rest1 * g;
    const float sign = static_cast<float>((direction > 0) - (direction < 0));
    return p * decay - rate * sign;
  }
  SNUG_HD float moment(float m, float g) const { return keep2 * m + rest2 * g; }
};

struct LionRule {
  double beta1, beta2;
  SNUG_HD LionNumbers numbers(const Weights& weights) const {
    LionNumbers n;
    n.decay = weights.decay(static_cast<double>(*weights.lr));
    n.rate = *weights.lr;
    n.keep1 = static_cast<float>(beta1);
    n.rest1 = static_cast<float>(1.0 - beta1);
    n.keep2 = static_cast<float>(beta2);
    n.rest2 = static_cast<float>(1.0 - beta2);
    return n;
  }
};

struct Lion {
  Weights weights;
  LionRule rule;
  View m;
  SNUG_HD LionNumbers start() const { return rule.numbers(weights); }
  SNUG_HD void operator()(const LionNumbers& n, std::int64_t i) const {
    if (weights.skipped()) return;
    const float g = weights.gradient_of(i);
    const float before = m.get(i);
    weights.set(i, n.weight(weights.value(i), before, g));
    m.set(i, n.moment(before, g));
  }
};

struct Lion8bit {
  using Tables = CodeMap;
  Weights weights;
  LionRule rule;
  Coded m;
  SNUG_HD void fill(Tables& map, int rank, int size) const { m.fill(map, rank, size); }
  template <class Team>
  SNUG_HD void operator()(Team& team, const Tables& map, std::int64_t block) const {
    if (weights.skipped()) return;
    const LionNumbers n = rule.numbers(weights);
    const std::int64_t begin = block * kUpdateBlock;
    const std::int64_t left = weights.weight.size - begin;
    const std::int64_t end = begin + (left < kUpdateBlock ? left : kUpdateBlock);
    float most = 0.0F;
    for (std::int64_t i = begin + team.rank(); i < end; i += team.size()) {
      most = fmaxf(most, fabsf(n.moment(m.get(map, i), weights.gradient_of(i))));
    }
    most = team.max(most);
    for (std::int64_t i = begin + team.rank(); i < end; i += team.size()) {
      const float g = weights.gradient_of(i);
      const float before = m.get(map, i);
      weights.set(i, n.weight(weights.value(i), before, g));
      m.codes[i] = m.code_of(map, n.moment(before, g) / divisor_of(most));
    }
    team.sync();
    if (team.rank() == 0) m.absmax[block] = most;
  }
};

struct Sgd {
  Weights weights;
  View sum;  ///< not present: no momentum
  double momentum;
  bool nesterov;
  SNUG_HD void operator()(std::int64_t i) const {
    if (weights.skipped()) return;
    const auto keep = static_cast<float>(momentum);
    const float p = weights.value(i);
    const float g = weights.gradient_of(i) + static_cast<float>(weights.weight_decay) * p;
    float direction = g;
    if (sum.present()) {
      const float total = keep * sum.get(i) + g;
      sum.set(i, total);
      direction = nesterov ? g + keep * total : total;
    }
    weights.set(i, p - *weights.lr * direction);
  }
};

}  // namespace snug::cuda
