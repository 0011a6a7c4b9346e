#pragma once
// Products, embeddings and packed matrices: a thread an element.

#include "backend/cuda/view.h"

namespace snug::cuda {

/// A matrix of a product inside a view: element (i, k) of batch b is begin + b * batch + i * outer
/// + k * inner.
struct Factor {
  View of;
  std::int64_t outer = 0, inner = 0, batch = 0;
  SNUG_HD float get(std::int64_t b, std::int64_t i, std::int64_t k) const {
    return of.get(b * batch + i * outer + k * inner);
  }
};

/// c[b, i, j] = sum over k of x(b, i, k) * w(b, j, k), plus bias[j].
struct Product {
  Factor x, w;
  View bias;
  Sum c;
  std::int64_t rows, columns, inner;
  SNUG_HD void operator()(std::int64_t i) const {
    const std::int64_t column = i % columns;
    const std::int64_t row = i / columns % rows;
    const std::int64_t b = i / columns / rows;
    float sum = bias.present() ? bias.get(column) : 0.0F;
    for (std::int64_t k = 0; k < inner; ++k) sum += x.get(b, row, k) * w.get(b, column, k);
    c.set(i, sum);
  }
};

/// A packed matrix (core/packed_format.h), all of it in the card's memory.
struct Packed {
  bool four_bit;
  const std::uint8_t* codes;
  const void* scales;   ///< fp32, or codes when `nested` is given
  const float* nested;  ///< nullptr: not double quantised
  const float* offset;
  std::int64_t columns;
  std::int64_t block, nested_block;
  float step;  ///< of int8
  float levels[16];
  float map[256];  ///< the signed dynamic map

  SNUG_HD float scale(std::int64_t i) const {
    if (nested == nullptr) return static_cast<const float*>(scales)[i];
    const float product =
        map[static_cast<const std::uint8_t*>(scales)[i]] * nested[i / nested_block];
    return product + *offset;
  }
  /// Element i of the flattened matrix.
  SNUG_HD float get(std::int64_t i) const {
    if (!four_bit) {
      return static_cast<float>(static_cast<std::int8_t>(codes[i])) * scale(i / columns) * step;
    }
    const unsigned pair = codes[i / 2];
    return levels[i % 2 == 0 ? pair >> 4U : pair & 15U] * scale(i / block);
  }
};

struct Dequantize {
  Packed w;
  View y;
  SNUG_HD void operator()(std::int64_t i) const { y.set(i, w.get(i)); }
};

/// Rows first_row.. and columns first_column.. of a packed matrix, `columns` of them.
struct DequantizeTile {
  Packed w;
  View y;
  std::int64_t columns, first_row, first_column;
  SNUG_HD void operator()(std::int64_t i) const {
    y.set(i, w.get((first_row + i / columns) * w.columns + first_column + i % columns));
  }
};

/// Sums in fp32 into what they belong to.
struct StoreSums {
  const float* sums;
  Sum to;
  SNUG_HD void operator()(std::int64_t i) const { to.set(i, sums[i]); }
};

/// c[i, j] = sum over k of x[i, k] * w(j, k), or w(k, j) when `turned`; w as stored in x's type.
struct PackedProduct {
  View x;
  Packed w;
  View bias;
  Sum c;
  std::int64_t columns, inner;
  bool turned;
  SNUG_HD void operator()(std::int64_t i) const {
    const std::int64_t row = i / columns;
    const std::int64_t column = i % columns;
    float sum = bias.present() ? bias.get(column) : 0.0F;
    for (std::int64_t k = 0; k < inner; ++k) {
      const float number = w.get(turned ? k * columns + column : column * inner + k);
      sum += x.get(row * inner + k) * as_stored(x.type, number);
    }
    c.set(i, sum);
  }
};

/// Rows of the table by id; a row of NaN for an id that the table has not.
struct Embedding {
  View table, y;
  const std::int32_t* ids;
  std::int64_t width, rows;
  SNUG_HD void operator()(std::int64_t i) const {
    const std::int64_t id = ids[i / width];
    y.set(i, id >= 0 && id < rows ? table.get(id * width + i % width) : NAN);
  }
};

/// For each token whether it is the first of its id, and the next token of the same id or -1.
struct EmbeddingChains {
  const std::int32_t* ids;
  std::int32_t* first;
  std::int32_t* next;
  std::int64_t tokens;
  SNUG_HD void operator()(std::int64_t t) const {
    std::int64_t before = t - 1;
    while (before >= 0 && ids[before] != ids[t]) --before;
    std::int64_t after = t + 1;
    while (after < tokens && ids[after] != ids[t]) ++after;
    first[t] = before < 0 ? 1 : 0;
    next[t] = after < tokens ? static_cast<std::int32_t>(after) : -1;
  }
};

/// The gradients of all tokens of one id, in order, into its row.
struct EmbeddingGradient {
  View dy;
  const std::int32_t* ids;
  const std::int32_t* first;
  const std::int32_t* next;
  Sum dw;
  std::int64_t width, rows;
  SNUG_HD void operator()(std::int64_t i) const {
    const std::int64_t token = i / width;
    const std::int64_t id = ids[token];
    if (first[token] == 0 || id < 0 || id >= rows) return;
    float sum = 0.0F;
    for (std::int64_t t = token; t >= 0; t = next[t]) sum += dy.get(t * width + i % width);
    dw.set(id * width + i % width, sum);
  }
};

}  // namespace snug::cuda
