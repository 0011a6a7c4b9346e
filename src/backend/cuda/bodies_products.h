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

/// What codes stand for, at hand for all threads of a block.
struct PackedTables {
  float levels[16];
  float map[256];
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
  float step;        ///< of int8
  PackedTables all;  ///< levels and the signed dynamic map

  SNUG_HD void fill(PackedTables& tables, int rank, int size) const {
    for (int i = rank; i < 16; i += size) tables.levels[i] = all.levels[i];
    for (int i = rank; i < 256; i += size) tables.map[i] = all.map[i];
  }
  SNUG_HD float scale(const PackedTables& tables, std::int64_t i) const {
    if (nested == nullptr) return static_cast<const float*>(scales)[i];
    const float product =
        tables.map[static_cast<const std::uint8_t*>(scales)[i]] * nested[i / nested_block];
    return product + *offset;
  }
  /// Element i of the flattened matrix.
  SNUG_HD float get(const PackedTables& tables, std::int64_t i) const {
    if (!four_bit) {
      const auto code = static_cast<float>(static_cast<std::int8_t>(codes[i]));
      return code * scale(tables, i / columns) * step;
    }
    const unsigned pair = codes[i / 2];
    return tables.levels[i % 2 == 0 ? pair >> 4U : pair & 15U] * scale(tables, i / block);
  }
};

/// Rows first_row.. and columns first_column.. of a packed matrix, `columns` of them.
struct DequantizeTile {
  using Tables = PackedTables;
  Packed w;
  View y;
  std::int64_t columns, first_row, first_column;
  SNUG_HD void fill(Tables& tables, int rank, int size) const { w.fill(tables, rank, size); }
  SNUG_HD std::int64_t place(std::int64_t row, std::int64_t column) const {
    return (first_row + row) * w.columns + first_column + column;
  }
  SNUG_HD void operator()(const Tables& tables, std::int64_t i) const {
    y.set(i, w.get(tables, place(i / columns, i % columns)));
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
  using Tables = PackedTables;
  View x;
  Packed w;
  View bias;
  Sum c;
  std::int64_t columns, inner;
  bool turned;
  SNUG_HD void fill(Tables& tables, int rank, int size) const { w.fill(tables, rank, size); }
  SNUG_HD void operator()(const Tables& tables, std::int64_t i) const {
    const std::int64_t row = i / columns;
    const std::int64_t column = i % columns;
    float sum = bias.present() ? bias.get(column) : 0.0F;
    for (std::int64_t k = 0; k < inner; ++k) {
      const float number = w.get(tables, turned ? k * columns + column : column * inner + k);
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
