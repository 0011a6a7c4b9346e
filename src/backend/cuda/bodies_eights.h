#pragma once
// Bodies for what only moves memory, eight elements at a time: loads and stores of 16 bytes a
// thread, one block of random bits for eight roundings. Operands are dense, of one type each,
// aligned to 16 bytes and a multiple of eight elements long. The arithmetic is that of the plain
// bodies.

#include <type_traits>

#include "backend/cuda/bodies_products.h"
#include "backend/cuda/bodies_update.h"

namespace snug::cuda {

/// Eight neighbours, loaded and stored 16 bytes at a time.
template <class T>
struct alignas(16) Eight {
  T v[8];
};

template <class T>
SNUG_HD Eight<T> load_eight(const View& from, std::int64_t i) {
  return reinterpret_cast<const Eight<T>*>(from.data)[i];
}

template <class T>
SNUG_HD void store_eight(const View& to, std::int64_t i, const float (&values)[8]) {
  Eight<T> all;
  for (int j = 0; j < 8; ++j) all.v[j] = T(values[j]);
  reinterpret_cast<Eight<T>*>(to.data)[i] = all;
}

/// The same with the elements' own random bits where there are any and T is bf16: element j takes
/// half j of `block`.
template <class T>
SNUG_HD void store_eight(const View& to, std::int64_t i, const float (&values)[8],
                         const Rounding& rounding, std::uint32_t part, std::int64_t block) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    if (rounding.draw != nullptr) {
      const PhiloxBlock bits = rounding.at(part).block(static_cast<std::uint64_t>(block));
      Eight<T> all;
      for (int j = 0; j < 8; ++j) {
        const std::uint32_t word = bits[static_cast<std::size_t>(j) / 2];
        all.v[j] = T::round_stochastic(values[j], j % 2 == 0 ? word & 0xffffU : word >> 16);
      }
      reinterpret_cast<Eight<T>*>(to.data)[i] = all;
      return;
    }
  }
  store_eight<T>(to, i, values);
}

template <class T>
struct AddEights {
  View a, b, y;
  SNUG_HD void operator()(std::int64_t i) const {
    const Eight<T> left = load_eight<T>(a, i);
    const Eight<T> right = load_eight<T>(b, i);
    float sum[8];
    for (int j = 0; j < 8; ++j) {
      sum[j] = static_cast<float>(left.v[j]) + static_cast<float>(right.v[j]);
    }
    store_eight<T>(y, i, sum);
  }
};

template <class T>
struct SiluMulEights {
  View gate, up, y;
  SNUG_HD void operator()(std::int64_t i) const {
    const Eight<T> z = load_eight<T>(gate, i);
    const Eight<T> u = load_eight<T>(up, i);
    float product[8];
    for (int j = 0; j < 8; ++j) {
      const auto g = static_cast<float>(z.v[j]);
      product[j] = g / (1.0F + expf(-g)) * static_cast<float>(u.v[j]);
    }
    store_eight<T>(y, i, product);
  }
};

template <class T>
struct SiluMulGradEights {
  View gate, up, dy, dgate, dup;
  SNUG_HD void operator()(std::int64_t i) const {
    const Eight<T> zs = load_eight<T>(gate, i);
    const Eight<T> us = load_eight<T>(up, i);
    const Eight<T> ds = load_eight<T>(dy, i);
    float to_gate[8];
    float to_up[8];
    for (int j = 0; j < 8; ++j) {
      const auto z = static_cast<float>(zs.v[j]);
      const auto d = static_cast<float>(ds.v[j]);
      const float s = 1.0F / (1.0F + expf(-z));
      to_gate[j] = d * static_cast<float>(us.v[j]) * s * (1.0F + z * (1.0F - s));
      to_up[j] = d * z * s;
    }
    store_eight<T>(dgate, i, to_gate);
    store_eight<T>(dup, i, to_up);
  }
};

/// Eight neighbours of a row share a scale: rows, tiles and blocks are in eights.
template <class T>
struct DequantizeEights {
  using Tables = PackedTables;
  DequantizeTile tile;
  SNUG_HD void fill(Tables& tables, int rank, int size) const { tile.fill(tables, rank, size); }
  SNUG_HD void operator()(const Tables& tables, std::int64_t i) const {
    const Packed& w = tile.w;
    const std::int64_t eights = tile.columns / 8;
    const std::int64_t from = tile.place(i / eights, i % eights * 8);
    float values[8];
    if (w.four_bit) {
      const float scale = w.scale(tables, from / w.block);
      const std::uint32_t pairs = reinterpret_cast<const std::uint32_t*>(w.codes)[from / 8];
      for (int j = 0; j < 8; ++j) {
        const int shift = j / 2 * 8 + (j % 2 == 0 ? 4 : 0);
        values[j] = tables.levels[pairs >> shift & 15U] * scale;
      }
    } else {
      const float scale = w.scale(tables, from / w.columns);
      const std::uint64_t codes = reinterpret_cast<const std::uint64_t*>(w.codes)[from / 8];
      for (int j = 0; j < 8; ++j) {
        const auto code = static_cast<std::int8_t>(codes >> (8 * j) & 255U);
        values[j] = static_cast<float>(code) * scale * w.step;
      }
    }
    store_eight<T>(tile.y, i, values);
  }
};

/// StoreSums into elements of type T, `to.first` in eights.
template <class T>
struct StoreSumsEights {
  const float* sums;
  Sum to;
  SNUG_HD void operator()(std::int64_t i) const {
    const Eight<float> sum = reinterpret_cast<const Eight<float>*>(sums)[i];
    float values[8];
    for (int j = 0; j < 8; ++j) values[j] = sum.v[j];
    if (to.acc.present()) {
      const Eight<T> old = load_eight<T>(to.acc, i);
      for (int j = 0; j < 8; ++j) values[j] += static_cast<float>(old.v[j]);
    }
    store_eight<T>(to.out, i, values, to.rounding, 0, to.first / 8 + i);
  }
};

/// Weights, gradients and states of types W, G and S; a master in fp32 or none.
template <class W, class G, class S, bool kMaster>
struct AdamWEights {
  Weights weights;
  AdamWRule rule;
  View m, v;
  SNUG_HD AdamWNumbers start() const { return rule.numbers(weights); }
  SNUG_HD void operator()(const AdamWNumbers& n, std::int64_t i) const {
    if (weights.skipped()) return;
    const float clip = weights.clip != nullptr ? *weights.clip : 1.0F;
    const Eight<G> gradient = load_eight<G>(weights.gradient, i);
    const Eight<S> old_m = load_eight<S>(m, i);
    const Eight<S> old_v = load_eight<S>(v, i);
    float value[8];
    if constexpr (kMaster) {
      const Eight<float> old = load_eight<float>(weights.master, i);
      for (int j = 0; j < 8; ++j) value[j] = old.v[j];
    } else {
      const Eight<W> old = load_eight<W>(weights.weight, i);
      for (int j = 0; j < 8; ++j) value[j] = static_cast<float>(old.v[j]);
    }
    float moment[8];
    float square[8];
    for (int j = 0; j < 8; ++j) {
      const float g = static_cast<float>(gradient.v[j]) * clip;
      moment[j] = n.first(static_cast<float>(old_m.v[j]), g);
      square[j] = n.second(static_cast<float>(old_v.v[j]), g);
      value[j] = n.weight(value[j], moment[j], sqrtf(square[j]));
    }
    if constexpr (kMaster) {
      store_eight<float>(weights.master, i, value);
      store_eight<W>(weights.weight, i, value);
    } else {
      store_eight<W>(weights.weight, i, value, weights.rounding, 0, i);
    }
    store_eight<S>(m, i, moment, weights.rounding, 1, i);
    store_eight<S>(v, i, square, weights.rounding, 2, i);
  }
};

/// A row's sum of squares by a team, then the row once more.
template <class T>
struct RmsNormEights {
  View x, w, y;
  std::int64_t width;
  float eps;
  template <class Team>
  SNUG_HD void operator()(Team& team, std::int64_t row) const {
    const std::int64_t eights = width / 8;
    const std::int64_t first = row * eights;
    float sum = 0.0F;
    for (std::int64_t i = team.rank(); i < eights; i += team.size()) {
      const Eight<T> values = load_eight<T>(x, first + i);
      for (int j = 0; j < 8; ++j) {
        const auto value = static_cast<float>(values.v[j]);
        sum += value * value;
      }
    }
    const float r = 1.0F / sqrtf(team.sum(sum) / static_cast<float>(width) + eps);
    for (std::int64_t i = team.rank(); i < eights; i += team.size()) {
      const Eight<T> values = load_eight<T>(x, first + i);
      const Eight<T> factors = load_eight<T>(w, i);
      float normed[8];
      for (int j = 0; j < 8; ++j) {
        normed[j] = static_cast<float>(values.v[j]) * r * static_cast<float>(factors.v[j]);
      }
      store_eight<T>(y, first + i, normed);
    }
  }
};

/// r (g - x r^2 mean(g x)), g = dy w. A member reads its elements before it writes them.
template <class T>
struct RmsNormDxEights {
  View dy, x, w, dx;
  std::int64_t width;
  float eps;
  template <class Team>
  SNUG_HD void operator()(Team& team, std::int64_t row) const {
    const std::int64_t eights = width / 8;
    const std::int64_t first = row * eights;
    float squares = 0.0F;
    float products = 0.0F;
    for (std::int64_t i = team.rank(); i < eights; i += team.size()) {
      const Eight<T> values = load_eight<T>(x, first + i);
      const Eight<T> gradients = load_eight<T>(dy, first + i);
      const Eight<T> factors = load_eight<T>(w, i);
      for (int j = 0; j < 8; ++j) {
        const auto value = static_cast<float>(values.v[j]);
        squares += value * value;
        products += static_cast<float>(gradients.v[j]) * static_cast<float>(factors.v[j]) * value;
      }
    }
    const float r = 1.0F / sqrtf(team.sum(squares) / static_cast<float>(width) + eps);
    const float dot = team.sum(products) * r * r / static_cast<float>(width);
    for (std::int64_t i = team.rank(); i < eights; i += team.size()) {
      const Eight<T> values = load_eight<T>(x, first + i);
      const Eight<T> gradients = load_eight<T>(dy, first + i);
      const Eight<T> factors = load_eight<T>(w, i);
      float result[8];
      for (int j = 0; j < 8; ++j) {
        const float g = static_cast<float>(gradients.v[j]) * static_cast<float>(factors.v[j]);
        result[j] = r * (g - static_cast<float>(values.v[j]) * dot);
      }
      store_eight<T>(dx, first + i, result);
    }
  }
};

/// A row's pairs (j, j + half), half a multiple of eight; element i is eight pairs.
template <class T>
struct RopeEights {
  View x, cos, sin, y;
  const std::int32_t* positions;
  std::int64_t heads, half, table_rows;
  float sign;
  SNUG_HD void operator()(std::int64_t i) const {
    const std::int64_t eights = half / 8;
    const std::int64_t row = i / eights;
    const std::int64_t j = i % eights;
    const std::int64_t position = positions[row / heads];
    const bool known = position >= 0 && position < table_rows;
    const std::int64_t low = row * 2 * eights + j;
    const Eight<T> a = load_eight<T>(x, low);
    const Eight<T> b = load_eight<T>(x, low + eights);
    float first[8];
    float second[8];
    Eight<float> c{};
    Eight<float> s{};
    if (known) {
      c = load_eight<float>(cos, position * eights + j);
      s = load_eight<float>(sin, position * eights + j);
    }
    for (int k = 0; k < 8; ++k) {
      const float by_cos = known ? c.v[k] : NAN;
      const float by_sin = known ? sign * s.v[k] : NAN;
      const auto p = static_cast<float>(a.v[k]);
      const auto q = static_cast<float>(b.v[k]);
      first[k] = p * by_cos - q * by_sin;
      second[k] = q * by_cos + p * by_sin;
    }
    store_eight<T>(y, low, first);
    store_eight<T>(y, low + eights, second);
  }
};

}  // namespace snug::cuda
