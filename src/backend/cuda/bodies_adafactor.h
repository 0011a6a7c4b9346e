#pragma once
// Adafactor's passes, in the order of the reference back end. Compiled without fused multiply-add.

#include "backend/cuda/bodies_update.h"

namespace snug::cuda {

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
