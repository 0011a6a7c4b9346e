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

/// An 8-bit state: codes of a dynamic map and the largest magnitude of each block.
struct Coded {
  std::uint8_t* codes;
  float* absmax;
  bool with_sign;
  float map[256];

  SNUG_HD float get(std::int64_t i) const { return map[codes[i]] * absmax[i / kUpdateBlock]; }
  /// The nearest, half way the lower; what is below zero never becomes zero.
  SNUG_HD std::uint8_t code_of(float value) const {
    constexpr int kZero = 127;
    int low = 0;  // the first entry that is not below the value
    int high = 256;
    while (low < high) {
      const int middle = (low + high) / 2;
      if (map[middle] < value) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    int code = low == 256 ? 255 : low;
    if (low > 0 && low < 256 && value <= (map[low - 1] + map[low]) / 2.0F) code = low - 1;
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
  Weights weights;
  AdamWRule rule;
  Coded m, v;
  bool root;
  template <class Team>
  SNUG_HD void operator()(Team& team, std::int64_t block) const {
    if (weights.skipped()) return;
    const AdamWNumbers n = rule.numbers(weights);
    const std::int64_t begin = block * kUpdateBlock;
    const std::int64_t left = weights.weight.size - begin;
    const std::int64_t end = begin + (left < kUpdateBlock ? left : kUpdateBlock);
    float most_m = 0.0F;
    float most_v = 0.0F;
    for (std::int64_t i = begin + team.rank(); i < end; i += team.size()) {
      const float g = weights.gradient_of(i);
      most_m = fmaxf(most_m, fabsf(n.first(m.get(i), g)));
      const float square = n.second(old_square(i), g);
      most_v = fmaxf(most_v, root ? sqrtf(square) : square);
    }
    most_m = team.max(most_m);
    most_v = team.max(most_v);
    for (std::int64_t i = begin + team.rank(); i < end; i += team.size()) {
      const float g = weights.gradient_of(i);
      const float moment = n.first(m.get(i), g);
      const float square = n.second(old_square(i), g);
      const float side = sqrtf(square);
      weights.set(i, n.weight(weights.value(i), moment, side));
      m.codes[i] = m.code_of(moment / divisor_of(most_m));
      v.codes[i] = v.code_of((root ? side : square) / divisor_of(most_v));
    }
    team.sync();  // the old absmax has been read by all
    if (team.rank() == 0) {
      m.absmax[block] = most_m;
      v.absmax[block] = most_v;
    }
  }
  SNUG_HD float old_square(std::int64_t i) const {
    const float stored = v.get(i);
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
  Weights weights;
  LionRule rule;
  Coded m;
  template <class Team>
  SNUG_HD void operator()(Team& team, std::int64_t block) const {
    if (weights.skipped()) return;
    const LionNumbers n = rule.numbers(weights);
    const std::int64_t begin = block * kUpdateBlock;
    const std::int64_t left = weights.weight.size - begin;
    const std::int64_t end = begin + (left < kUpdateBlock ? left : kUpdateBlock);
    float most = 0.0F;
    for (std::int64_t i = begin + team.rank(); i < end; i += team.size()) {
      most = fmaxf(most, fabsf(n.moment(m.get(i), weights.gradient_of(i))));
    }
    most = team.max(most);
    for (std::int64_t i = begin + team.rank(); i < end; i += team.size()) {
      const float g = weights.gradient_of(i);
      const float before = m.get(i);
      weights.set(i, n.weight(weights.value(i), before, g));
      m.codes[i] = m.code_of(n.moment(before, g) / divisor_of(most));
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

/// Adafactor's options and sums, and where its passes leave theirs.
struct AdafactorRule {
  Weights weights;
  const float* rate;
  const float* rest;
  double eps1, eps2, clip_threshold;
  bool torch, scale_parameter;
  std::int64_t rows, columns;
  float* row_means;  ///< nullptr: a vector, whose squares are column_means
  float* column_means;
  double* update_sums;  ///< [rows]: of the squares of u
  double* weight_sums;  ///< [rows]: of the old weights' squares
  double* totals;       ///< mean of row_means; then decay and step

  SNUG_HD float square(std::int64_t i) const {
    const float g = weights.gradient_of(i);
    return g * g + (torch ? 0.0F : static_cast<float>(eps1));
  }
  SNUG_HD float newest(float old, double mean) const {
    const auto share = static_cast<double>(*rest);
    return static_cast<float>((1.0 - share) * static_cast<double>(old) + share * mean);
  }
  /// The gradient over the root of its expected square.
  SNUG_HD float scaled(std::int64_t i) const {
    const auto least = static_cast<float>(torch ? eps1 * eps1 : 0.0);
    float expected = column_means[i % columns];
    if (row_means != nullptr) {
      expected *= row_means[i / columns] / static_cast<float>(totals[0]);
    }
    return weights.gradient_of(i) / sqrtf(fmaxf(expected, least));
  }
};

/// New row means.
struct AdafactorRows {
  AdafactorRule a;
  template <class Team>
  SNUG_HD void operator()(Team& team, std::int64_t row) const {
    if (a.weights.skipped()) return;
    double sum = 0.0;
    for (std::int64_t c = team.rank(); c < a.columns; c += team.size()) {
      sum += static_cast<double>(a.square(row * a.columns + c));
    }
    sum = team.sum(sum);
    if (team.rank() == 0) {
      a.row_means[row] = a.newest(a.row_means[row], sum / static_cast<double>(a.columns));
    }
  }
};

/// New column means; of a vector, new squares.
struct AdafactorColumns {
  AdafactorRule a;
  SNUG_HD void operator()(std::int64_t c) const {
    if (a.weights.skipped()) return;
    double sum = 0.0;
    for (std::int64_t r = 0; r < a.rows; ++r) {
      sum += static_cast<double>(a.square(r * a.columns + c));
    }
    a.column_means[c] = a.newest(a.column_means[c], sum / static_cast<double>(a.rows));
  }
};

struct AdafactorMean {
  AdafactorRule a;
  template <class Team>
  SNUG_HD void operator()(Team& team, std::int64_t) const {
    double sum = 0.0;
    for (std::int64_t r = team.rank(); r < a.rows; r += team.size()) {
      sum += static_cast<double>(a.row_means[r]);
    }
    const double mean = team.sum(sum) / static_cast<double>(a.rows);
    if (team.rank() == 0) a.totals[0] = a.torch && mean < a.eps1 ? a.eps1 : mean;
  }
};

/// A row's squares of its update and of its old weights.
struct AdafactorSquares {
  AdafactorRule a;
  template <class Team>
  SNUG_HD void operator()(Team& team, std::int64_t row) const {
    double update = 0.0;
    double weight = 0.0;
    for (std::int64_t c = team.rank(); c < a.columns; c += team.size()) {
      const auto u = static_cast<double>(a.scaled(row * a.columns + c));
      const auto w = static_cast<double>(a.weights.value(row * a.columns + c));
      update += u * u;
      weight += w * w;
    }
    update = team.sum(update);
    weight = team.sum(weight);
    if (team.rank() == 0) {
      a.update_sums[row] = update;
      a.weight_sums[row] = weight;
    }
  }
};

struct AdafactorFactors {
  AdafactorRule a;
  template <class Team>
  SNUG_HD void operator()(Team& team, std::int64_t) const {
    double update = 0.0;
    double weight = 0.0;
    for (std::int64_t r = team.rank(); r < a.rows; r += team.size()) {
      update += a.update_sums[r];
      weight += a.weight_sums[r];
    }
    update = team.sum(update);
    weight = team.sum(weight);
    if (team.rank() != 0) return;
    const auto count = static_cast<double>(a.rows) * static_cast<double>(a.columns);
    auto step = static_cast<double>(*a.rate);
    if (a.scale_parameter) {
      const double size = ::sqrt(weight / count);
      step *= size > a.eps2 ? size : a.eps2;
    }
    const double over = ::sqrt(update / count) / a.clip_threshold;
    const double lr = a.torch ? static_cast<double>(*a.weights.lr) : step;
    a.totals[1] = 1.0 - lr * a.weights.weight_decay;
    a.totals[2] = step / (over > 1.0 ? over : 1.0);
  }
};

struct AdafactorUpdate {
  AdafactorRule a;
  SNUG_HD void operator()(std::int64_t i) const {
    if (a.weights.skipped()) return;
    const float p = a.weights.value(i) * static_cast<float>(a.totals[1]);
    a.weights.set(i, p - static_cast<float>(a.totals[2]) * a.scaled(i));
  }
};

}  // namespace snug::cuda
