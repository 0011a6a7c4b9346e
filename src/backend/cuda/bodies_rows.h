#pragma once
// Bodies that reduce: RMS norm, sums of columns, DoRA's norms, the gradient norm.

#include "backend/cuda/view.h"

namespace snug::cuda {

/// 1 / sqrt(mean(x^2) + eps) of row `row`, by a whole team.
template <class Team>
SNUG_HD float inverse_rms(Team& team, const View& x, std::int64_t row, std::int64_t width,
                          float eps) {
  float sum = 0.0F;
  for (std::int64_t j = team.rank(); j < width; j += team.size()) {
    const float value = x.get(row * width + j);
    sum += value * value;
  }
  return 1.0F / sqrtf(team.sum(sum) / static_cast<float>(width) + eps);
}

struct RmsNorm {
  View x, w, y;
  std::int64_t width;
  float eps;
  template <class Team>
  SNUG_HD void operator()(Team& team, std::int64_t row) const {
    const float r = inverse_rms(team, x, row, width, eps);
    for (std::int64_t j = team.rank(); j < width; j += team.size()) {
      y.set(row * width + j, x.get(row * width + j) * r * w.get(j));
    }
  }
};

/// r (g - x r^2 mean(g x)), g = dy w. A member reads an element before it writes it.
struct RmsNormDx {
  View dy, x, w, dx;
  std::int64_t width;
  float eps;
  template <class Team>
  SNUG_HD void operator()(Team& team, std::int64_t row) const {
    const float r = inverse_rms(team, x, row, width, eps);
    float dot = 0.0F;
    for (std::int64_t j = team.rank(); j < width; j += team.size()) {
      dot += dy.get(row * width + j) * w.get(j) * x.get(row * width + j);
    }
    dot = team.sum(dot) * r * r / static_cast<float>(width);
    for (std::int64_t j = team.rank(); j < width; j += team.size()) {
      const std::int64_t i = row * width + j;
      dx.set(i, r * (dy.get(i) * w.get(j) - x.get(i) * dot));
    }
  }
};

struct InverseRms {
  View x;
  float* r;
  std::int64_t width;
  float eps;
  template <class Team>
  SNUG_HD void operator()(Team& team, std::int64_t row) const {
    const float value = inverse_rms(team, x, row, width, eps);
    if (team.rank() == 0) r[row] = value;
  }
};

/// Rows whose column sums are taken by one thread.
inline constexpr std::int64_t kColumnRows = 64;

/// parts[p, c] = sum over the rows of stretch p of dy[t, c] (* x[t, c]) (* r[t]).
struct ColumnParts {
  View dy, x;
  const float* r;  ///< nullptr: 1
  float* parts;
  std::int64_t columns, rows;
  SNUG_HD void operator()(std::int64_t i) const {
    const std::int64_t begin = i / columns * kColumnRows;
    const std::int64_t end = begin + kColumnRows < rows ? begin + kColumnRows : rows;
    float sum = 0.0F;
    for (std::int64_t t = begin; t < end; ++t) {
      const std::int64_t at = t * columns + i % columns;
      float term = dy.get(at);
      if (x.present()) term *= x.get(at);
      if (r != nullptr) term *= r[t];
      sum += term;
    }
    parts[i] = sum;
  }
};

struct ColumnTotals {
  const float* parts;
  View divisor;  ///< not present: 1
  Sum y;
  std::int64_t columns, count;
  SNUG_HD void operator()(std::int64_t c) const {
    float sum = 0.0F;
    for (std::int64_t p = 0; p < count; ++p) sum += parts[p * columns + c];
    y.set(c, divisor.present() ? sum / divisor.get(c) : sum);
  }
};

/// The norm of row n of w + scale * b a.
struct DoraNorm {
  View w, a, b, y;
  std::int64_t columns, rank;
  float scale;
  template <class Team>
  SNUG_HD void operator()(Team& team, std::int64_t n) const {
    float squares = 0.0F;
    for (std::int64_t k = team.rank(); k < columns; k += team.size()) {
      float delta = 0.0F;
      for (std::int64_t r = 0; r < rank; ++r) {
        delta += b.get(n * rank + r) * a.get(r * columns + k);
      }
      const float sum = w.get(n * columns + k) + scale * delta;
      squares += sum * sum;
    }
    squares = team.sum(squares);
    if (team.rank() == 0) y.set(n, sqrtf(squares));
  }
};

/// Elements of a gradient that one team squares.
inline constexpr std::int64_t kNormBlock = 1 << 16;

struct SquareParts {
  View x;
  double* parts;
  template <class Team>
  SNUG_HD void operator()(Team& team, std::int64_t block) const {
    const std::int64_t begin = block * kNormBlock;
    const std::int64_t end = begin + kNormBlock < x.size ? begin + kNormBlock : x.size;
    double sum = 0.0;
    for (std::int64_t i = begin + team.rank(); i < end; i += team.size()) {
      const auto value = static_cast<double>(x.get(i));
      sum += value * value;
    }
    sum = team.sum(sum);
    if (team.rank() == 0) parts[block] = sum;
  }
};

SNUG_HD inline double clip_of(double norm, double limit) {
  const double clip = limit / (norm + 1e-6);
  return limit > 0.0 && std::isfinite(norm) && clip < 1.0 ? clip : 1.0;
}

struct GlobalNorm {
  const double* parts;
  std::int64_t count;
  double limit;
  float* norm;
  float* clip;
  std::int32_t* finite;
  template <class Team>
  SNUG_HD void operator()(Team& team, std::int64_t) const {
    double sum = 0.0;
    for (std::int64_t i = team.rank(); i < count; i += team.size()) sum += parts[i];
    sum = team.sum(sum);
    if (team.rank() != 0) return;
    const double root = ::sqrt(sum);
    *norm = static_cast<float>(root);
    *clip = static_cast<float>(clip_of(root, limit));
    *finite = std::isfinite(root) ? 1 : 0;
  }
};

struct UnscaleNorm {
  const float* norm;
  const float* inverse;
  double limit;
  float* unscaled;
  float* clip;
  SNUG_HD void operator()(std::int64_t) const {
    const auto factor = static_cast<double>(*inverse);
    const double value = static_cast<double>(*norm) * factor;
    *unscaled = static_cast<float>(value);
    *clip = static_cast<float>(factor * clip_of(value, limit));
  }
};

}  // namespace snug::cuda
