#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/attention_backward.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// The target's code comes after foreach_target.h.
#include <algorithm>
#include <utility>

#include "backend/cpu/attention-inl.h"
#include "backend/cpu/attention_backward.h"
#include "backend/cpu/attention_backward_buffers.h"
#include "backend/cpu/attention_backward_pairs-inl.h"
#include "backend/cpu/attention_products.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/scratch.h"

#ifndef SNUG_ATTENTION_BACKWARD_ONCE
#define SNUG_ATTENTION_BACKWARD_ONCE
namespace snug {

/// Consecutive query tiles of one document (or of tokens that see nothing).
struct DocumentTiles {
  std::int32_t first_tile;
  std::int32_t tile_count;
};

struct BackwardTask {
  const AttentionBackward* call;
  const QueryTile* tiles;
  const DocumentTiles* documents;
  const PairProducts* products;  // nullptr: products in f32
};

}  // namespace snug
#endif

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {
namespace {

template <class T>
float dot(const T* a, const T* b, int64_t count) {
  const int64_t n = lanes();
  Vec sum = hn::Zero(F32());
  int64_t i = 0;
  for (; i + n <= count; i += n) sum = hn::MulAdd(load(a + i), load(b + i), sum);
  if (i < count) sum = hn::MulAdd(load_some(a + i, count - i), load_some(b + i, count - i), sum);
  return sum_lanes(sum);
}

template <class T>
void load_query_tile(const AttentionBackward& call, const QueryTile& tile, int64_t kv_head,
                     bool in_pairs, const BackwardBuffers& buffers) {
  const AttentionShape& shape = call.shape;
  const int64_t dim = buffers.padded_dim;
  const int64_t padded_rows = buffers.padded_rows;
  const int64_t rows = tile.count * shape.group();
  for (int64_t r = 0; r < padded_rows; ++r) {
    const bool used = r < rows;
    const int64_t token = tile.first + std::min(r, rows - 1) / shape.group();
    const int64_t head = kv_head * shape.group() + r % shape.group();
    const int64_t column = head * shape.head_dim;
    const int64_t count = used ? shape.head_dim : 0;
    const auto at = [&](const TokenInput& matrix) {
      return static_cast<const T*>(matrix.data) + token * matrix.stride + column;
    };
    if (!in_pairs) {
      widen_row(at(call.q), count, buffers.query + r * dim, dim);
      widen_row(at(call.grad_o), count, buffers.grad_output + r * dim, dim);
    }
    buffers.delta[r] = dot(at(call.grad_o), at(call.o), count);
    buffers.lse[r] = used ? call.lse[head * call.tokens + token] * kLog2E : 0.0F;
    buffers.at[r] = static_cast<int32_t>(token);
  }
  std::fill_n(buffers.grad_query, dim * padded_rows, 0.0F);
  if (in_pairs) {
    load_query_rows(call.q, shape, tile, kv_head, buffers, pairs_at(buffers.query),
                    pairs_at(buffers.query_scaled));
    load_query_rows(call.grad_o, shape, tile, kv_head, buffers, pairs_at(buffers.grad_output),
                    pairs_at(buffers.grad_output_t));
    return;
  }
  transpose(buffers.query, dim, padded_rows, dim, buffers.query_scaled, padded_rows);
  scale_row(buffers.query_scaled, dim * padded_rows, shape.scale * kLog2E);
  transpose(buffers.grad_output, dim, padded_rows, dim, buffers.grad_output_t, padded_rows);
}

/// p = 2^(s - lse) and ds = p * (dp - delta) for one vector of rows; 0 where a key is not seen.
HWY_INLINE void score_gradient(const BackwardBuffers& buffers, int64_t row, int64_t key,
                               int64_t padded_count, const Visible& visible, int64_t window) {
  const F32 d;
  const int64_t stride = buffers.padded_rows;
  float* probability = buffers.probability + row;
  float* grad_score = buffers.grad_score + row;
  const Vec lse = hn::Load(d, buffers.lse + row);
  const Vec delta = hn::Load(d, buffers.delta + row);
  const auto at = hn::Load(I32(), buffers.at + row);
  const auto clear = [&](int64_t begin, int64_t end) HWY_ATTR {
    for (int64_t j = begin; j < end; ++j) {
      hn::Store(hn::Zero(d), d, probability + j * stride);
      hn::Store(hn::Zero(d), d, grad_score + j * stride);
    }
  };
  clear(0, std::min(visible.begin, padded_count));
  for (int64_t j = visible.begin; j < visible.end; ++j) {
    // Rounding can lift s above lse by a few units in the last place.
    const Vec above = hn::Sub(hn::Load(d, probability + j * stride), lse);
    Vec p = exp2_nonpositive(above);
    if (!visible.all) p = hn::IfThenElseZero(sees(at, key + j, window), p);
    const Vec grad_p = hn::Load(d, grad_score + j * stride);
    hn::Store(p, d, probability + j * stride);
    hn::Store(hn::Mul(p, hn::Sub(grad_p, delta)), d, grad_score + j * stride);
  }
  clear(std::max<int64_t>(0, visible.end), padded_count);
}

/// The rows of a tile that may see one of `count` keys from `key` on.
HWY_INLINE std::pair<int64_t, int64_t> seeing_rows(const TileView& view, int64_t key,
                                                   int64_t count) {
  const int64_t begin = std::max<int64_t>(0, key - view.first_query) * view.group;
  if (view.window == 0) return {begin, view.rows()};
  const int64_t end = (key + count - 1 + view.window - view.first_query) * view.group;
  return {begin, std::min(end, view.rows())};
}

/// dq += ds k of one key tile, and p and ds for add_key_gradients.
void visit_rows(const TileView& view, int64_t key, int64_t key_count,
                const BackwardBuffers& buffers) {
  const int64_t n = lanes();
  const int64_t stride = buffers.padded_rows;
  const int64_t dim = buffers.padded_dim;
  const int64_t padded_count = round_up(key_count, kBlockRows);
  for (int64_t row = 0; row < view.rows(); row += kBlockVectors * n) {
    const int64_t left = (view.rows() - row + n - 1) / n;
    const int vectors = static_cast<int>(std::min<int64_t>(kBlockVectors, left));
    const Visible visible = visible_keys(view, row, vectors * n, key, key_count);
    const int64_t keys = visible.end - visible.begin;
    const int64_t first = visible.begin * stride + row;
    if (keys > 0) {
      multiply_panel<Start::zero>({buffers.keys + visible.begin * dim, dim, 1}, keys,
                                  buffers.query_scaled + row, stride, dim, vectors,
                                  buffers.probability + first, stride);
      multiply_panel<Start::zero>({buffers.values + visible.begin * dim, dim, 1}, keys,
                                  buffers.grad_output_t + row, stride, dim, vectors,
                                  buffers.grad_score + first, stride);
    }
    for (int v = 0; v < vectors; ++v) {
      score_gradient(buffers, row + v * n, key, padded_count, visible, view.window);
    }
    if (keys > 0) {
      multiply_panel<Start::add>({buffers.keys + visible.begin * dim, 1, dim}, dim,
                                 buffers.grad_score + first, stride, keys, vectors,
                                 buffers.grad_query + row, stride);
    }
  }
}

/// dv += p^T do and dk += ds^T q of one key tile; `first_key` is the document's.
void add_key_gradients(const TileView& view, int64_t key, int64_t key_count,
                       const BackwardBuffers& buffers) {
  const int64_t n = lanes();
  const int64_t stride = buffers.padded_rows;
  const int64_t dim = buffers.padded_dim;
  for (int64_t column = 0; column < dim; column += kBlockVectors * n) {
    const int64_t left = (dim - column) / n;
    const int vectors = static_cast<int>(std::min<int64_t>(kBlockVectors, left));
    for (int64_t j = 0; j < key_count; j += kBlockRows) {
      const auto [begin, end] = seeing_rows(view, key + j, kBlockRows);
      if (begin >= end) continue;
      const int64_t to = (key - view.first_key + j) * dim + column;
      const int64_t from = begin * dim + column;
      multiply_panel<Start::add>({buffers.probability + j * stride + begin, stride, 1}, kBlockRows,
                                 buffers.grad_output + from, dim, end - begin, vectors,
                                 buffers.document_grad_v + to, dim);
      multiply_panel<Start::add>({buffers.grad_score + j * stride + begin, stride, 1}, kBlockRows,
                                 buffers.query + from, dim, end - begin, vectors,
                                 buffers.document_grad_k + to, dim);
    }
  }
}

template <class T>
void store_grad_query(const AttentionBackward& call, const QueryTile& tile, int64_t kv_head,
                      const BackwardBuffers& buffers) {
  const AttentionShape& shape = call.shape;
  const int64_t rows = tile.count * shape.group();
  auto* grad_q = static_cast<T*>(call.grad_q.data);
  for (int64_t r = 0; r < rows; r += kStaged) {
    transpose(buffers.grad_query + r, buffers.padded_rows, buffers.padded_dim, kStaged,
              buffers.staging, buffers.padded_dim);
    for (int64_t i = 0; i < std::min(kStaged, rows - r); ++i) {
      const int64_t token = tile.first + (r + i) / shape.group();
      const int64_t head = kv_head * shape.group() + (r + i) % shape.group();
      narrow_row(buffers.staging + i * buffers.padded_dim, shape.head_dim, shape.scale,
                 grad_q + token * call.grad_q.stride + head * shape.head_dim);
    }
  }
}

template <class T>
void store_zeros(const AttentionBackward& call, const QueryTile& tile, int64_t kv_head) {
  const AttentionShape& shape = call.shape;
  const int64_t dim = shape.head_dim;
  const auto clear = [&](const TokenOutput& matrix, int64_t token, int64_t heads) {
    T* row = static_cast<T*>(matrix.data) + token * matrix.stride;
    std::fill_n(row + kv_head * heads * dim, heads * dim, T{});
  };
  for (int64_t token = tile.first; token < tile.first + tile.count; ++token) {
    clear(call.grad_q, token, shape.group());
    clear(call.grad_k, token, 1);
    clear(call.grad_v, token, 1);
  }
}

template <class T>
void visit_keys(const AttentionBackward& call, const TileView& view, int64_t kv_head,
                const BackwardBuffers& buffers) {
  const int64_t head_dim = call.shape.head_dim;
  const int64_t column = kv_head * head_dim;
  const int64_t dim = buffers.padded_dim;
  for (int64_t key = view.first_key + view.first_tile(); key < view.end_key(); key += kKeyTile) {
    const int64_t count = std::min(kKeyTile, view.end_key() - key);
    load_tile<T>(call.k, key, count, column, head_dim, buffers.keys, dim);
    load_tile<T>(call.v, key, count, column, head_dim, buffers.values, dim);
    visit_rows(view, key, count, buffers);
    add_key_gradients(view, key, count, buffers);
  }
}

void visit_keys_pairs(const AttentionBackward& call, const TileView& view, int64_t kv_head,
                      const PairProducts& products, const BackwardBuffers& buffers) {
  const int64_t dim = call.shape.head_dim;
  const auto at = [&](const TokenInput& matrix, int64_t key) {
    return static_cast<const BFloat16*>(matrix.data) + key * matrix.stride + kv_head * dim;
  };
  products.begin();
  for (int64_t key = view.first_key + view.first_tile(); key < view.end_key(); key += kKeyTile) {
    const int64_t count = std::min(kKeyTile, view.end_key() - key);
    load_rows_as_pairs(at(call.k, key), call.k.stride, count, dim, pairs_at(buffers.keys),
                       pairs_of(dim));
    load_rows_as_pairs(at(call.v, key), call.v.stride, count, dim, pairs_at(buffers.values),
                       pairs_of(dim));
    load_columns_as_pairs(at(call.k, key), call.k.stride, count, dim, pairs_at(buffers.staging),
                          pairs_at(buffers.keys_t), buffers.padded_dim);
    visit_rows_pairs(view, key, count, call.shape, products, buffers);
    add_key_gradients_pairs(view, key, count, products, buffers, seeing_rows);
  }
  products.end();
}

template <class T>
void visit_query_tile(const AttentionBackward& call, const QueryTile& tile, int64_t kv_head,
                      const PairProducts* products, BackwardBuffers buffers) {
  const AttentionShape& shape = call.shape;
  const bool in_pairs = products != nullptr;
  buffers.padded_rows = round_up(tile.count * shape.group(), in_pairs ? 32 : 16);
  load_query_tile<T>(call, tile, kv_head, in_pairs, buffers);
  const TileView view{.first_query = tile.first,
                      .queries = tile.count,
                      .group = shape.group(),
                      .first_key = tile.document,
                      .window = shape.window};
  if (in_pairs) {
    visit_keys_pairs(call, view, kv_head, *products, buffers);
  } else {
    visit_keys<T>(call, view, kv_head, buffers);
  }
  store_grad_query<T>(call, tile, kv_head, buffers);
}

template <class T>
void run_document(const BackwardTask& task, int64_t index, const BackwardBuffers& buffers) {
  const AttentionBackward& call = *task.call;
  const AttentionShape& shape = call.shape;
  const DocumentTiles& document = task.documents[index / shape.kv_heads];
  const int64_t kv_head = index % shape.kv_heads;
  const QueryTile* tiles = task.tiles + document.first_tile;
  const QueryTile& last = tiles[document.tile_count - 1];
  const int64_t first = tiles[0].first;
  const int64_t tokens = last.first + last.count - first;
  const int64_t dim = buffers.padded_dim;
  if (tiles[0].document == kNoKeys) {
    for (int64_t i = 0; i < document.tile_count; ++i) store_zeros<T>(call, tiles[i], kv_head);
    return;
  }
  std::fill_n(buffers.document_grad_k, round_up(tokens, kRowPadding) * dim, 0.0F);
  std::fill_n(buffers.document_grad_v, round_up(tokens, kRowPadding) * dim, 0.0F);
  for (int64_t i = 0; i < document.tile_count; ++i) {
    visit_query_tile<T>(call, tiles[i], kv_head, task.products, buffers);
  }
  for (int64_t j = 0; j < tokens; ++j) {
    const auto at = [&](const TokenOutput& matrix) {
      return static_cast<T*>(matrix.data) + (first + j) * matrix.stride + kv_head * shape.head_dim;
    };
    narrow_row(buffers.document_grad_k + j * dim, shape.head_dim, shape.scale, at(call.grad_k));
    narrow_row(buffers.document_grad_v + j * dim, shape.head_dim, 1.0F, at(call.grad_v));
  }
}

void run_backward_item(const BackwardTask& task, int64_t index, const BackwardBuffers& buffers) {
  if (task.call->shape.type == DType::bf16) {
    run_document<BFloat16>(task, index, buffers);
  } else {
    run_document<float>(task, index, buffers);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace snug {
namespace {

HWY_EXPORT(run_backward_item);

std::int64_t group_tiles(const QueryTile* tiles, std::int64_t tile_count,
                         const std::int32_t* doc_start, DocumentTiles* documents) {
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < tile_count; ++i) {
    const bool same = i > 0 && doc_start[tiles[i].first] == doc_start[tiles[i - 1].first];
    if (same) {
      ++documents[count - 1].tile_count;
    } else {
      documents[count++] = {static_cast<std::int32_t>(i), 1};
    }
  }
  return count;
}

}  // namespace

std::int64_t attention_backward_scratch(const AttentionShape& shape, std::int64_t tokens,
                                        int threads) {
  return scratch_bytes(tokens, sizeof(QueryTile)) + scratch_bytes(tokens, sizeof(DocumentTiles)) +
         scratch_bytes(backward_floats(shape, tokens) * threads, sizeof(float));
}

void attention_backward(const AttentionBackward& call, std::span<std::byte> scratch,
                        ThreadPool& pool) {
  check_attention(call.shape);
  Scratch rest(scratch);
  auto* tiles = rest.take<QueryTile>(call.tokens);
  auto* documents = rest.take<DocumentTiles>(call.tokens);
  const std::int64_t tile_count = make_query_tiles(call.shape, call.doc_start, call.tokens, tiles);
  const std::int64_t count = group_tiles(tiles, tile_count, call.doc_start, documents);
  const std::int64_t floats = backward_floats(call.shape, call.tokens);
  auto* area = rest.take<float>(floats * pool.threads());
  const BackwardTask task{&call, tiles, documents,
                          call.shape.type == DType::bf16 ? pair_products(call.shape.isa) : nullptr};
  choose_target();
  const auto item = HWY_DYNAMIC_DISPATCH(run_backward_item);
  pool.run(count * call.shape.kv_heads, [&](std::int64_t index, int worker) {
    item(task, index, backward_buffers(call.shape, call.tokens, area + worker * floats));
  });
}

}  // namespace snug
#endif
