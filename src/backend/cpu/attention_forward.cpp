#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/attention_forward.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// The target's code comes after foreach_target.h.
#include <cmath>
#include <limits>
#include <utility>

#include "backend/cpu/attention-inl.h"
#include "backend/cpu/attention_forward.h"
#include "backend/cpu/attention_forward_buffers.h"
#include "backend/cpu/attention_pairs-inl.h"
#include "backend/cpu/attention_products.h"
#include "backend/cpu/attention_softmax-inl.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/scratch.h"

#ifndef SNUG_ATTENTION_FORWARD_ONCE
#define SNUG_ATTENTION_FORWARD_ONCE
namespace snug {

/// One call, whichever the operands: the keys are those of the tokens or of the cache.
struct ForwardTask {
  AttentionShape shape;
  TokenInput q;
  TokenInput k;
  TokenInput v;
  TokenOutput o;
  float* lse;            // nullptr: not wanted
  std::int64_t tokens;   // rows of lse
  std::int64_t key_row;  // key index of query row 0
  const QueryTile* tiles;
  std::int64_t tile_count;
  const PairProducts* products;  // nullptr: products in f32
};

}  // namespace snug
#endif

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {
namespace {

template <class T>
void load_queries(const ForwardTask& task, const QueryTile& tile, int64_t kv_head,
                  const ForwardBuffers& buffers) {
  const AttentionShape& shape = task.shape;
  const int64_t group = shape.group();
  const int64_t rows = tile.count * group;
  const auto* q = static_cast<const T*>(task.q.data);
  for (int64_t r = 0; r < buffers.padded_rows; r += kStaged) {
    for (int64_t i = 0; i < kStaged; ++i) {
      const bool used = r + i < rows;
      const int64_t token = tile.first + (r + i) / group;
      const int64_t head = kv_head * group + (r + i) % group;
      const T* from = used ? q + token * task.q.stride + head * shape.head_dim : nullptr;
      widen_row(from, used ? shape.head_dim : 0, buffers.staging + i * buffers.padded_dim,
                buffers.padded_dim);
    }
    scale_row(buffers.staging, kStaged * buffers.padded_dim, shape.scale * kLog2E);
    transpose(buffers.staging, buffers.padded_dim, kStaged, buffers.padded_dim, buffers.query + r,
              buffers.padded_rows);
  }
}

void load_query_pairs(const ForwardTask& task, const QueryTile& tile, int64_t kv_head,
                      const ForwardBuffers& buffers) {
  const AttentionShape& shape = task.shape;
  const int64_t pairs = pairs_of(shape.head_dim);
  auto* staging = reinterpret_cast<uint32_t*>(buffers.staging);
  for (int64_t r = 0; r < buffers.padded_rows; r += kStaged) {
    for (int64_t i = 0; i < kStaged; ++i) {
      const bool used = r + i < tile.count * shape.group();
      const int64_t token = tile.first + (r + i) / shape.group();
      const int64_t head = kv_head * shape.group() + (r + i) % shape.group();
      const auto* q = static_cast<const BFloat16*>(task.q.data);
      copy_pairs(used ? q + token * task.q.stride + head * shape.head_dim : nullptr,
                 used ? shape.head_dim : 0, staging + i * pairs, pairs);
    }
    transpose_pairs(staging, pairs, kStaged, pairs, reinterpret_cast<uint32_t*>(buffers.query) + r,
                    buffers.padded_rows);
  }
}

void start_rows(const ForwardTask& task, const QueryTile& tile, const ForwardBuffers& buffers) {
  const int64_t group = task.shape.group();
  const int64_t rows = tile.count * group;
  for (int64_t r = 0; r < buffers.padded_rows; ++r) {
    const int64_t query = std::min(r, rows - 1) / group;
    buffers.at[r] = static_cast<int32_t>(task.key_row + tile.first + query);
    buffers.max[r] = -std::numeric_limits<float>::infinity();
    buffers.sum[r] = 0;
  }
  std::fill_n(buffers.output, buffers.padded_dim * buffers.padded_rows, 0.0F);
}

/// Adds one key tile to the output of all rows, a panel of vectors at a time.
void visit_tile(const TileView& view, int64_t key, int64_t key_count,
                const ForwardBuffers& buffers) {
  const int64_t n = lanes();
  const int64_t stride = buffers.padded_rows;
  const int64_t dim = buffers.padded_dim;
  const int64_t panel = kBlockVectors * n;
  for (int64_t row = 0; row < view.rows(); row += panel) {
    const int64_t left = (view.rows() - row + n - 1) / n;
    const int vectors = static_cast<int>(std::min<int64_t>(kBlockVectors, left));
    const Visible visible = visible_keys(view, row, vectors * n, key, key_count);
    if (visible.end <= visible.begin) continue;
    multiply_panel<Start::zero>({buffers.keys + visible.begin * dim, dim, 1},
                                visible.end - visible.begin, buffers.query + row, stride, dim,
                                vectors, buffers.scores + visible.begin * panel, panel);
    for (int v = 0; v < vectors; ++v) {
      online_softmax(buffers, row + v * n, buffers.scores + v * n, panel, key, visible,
                     view.window);
    }
    multiply_panel<Start::scaled>({buffers.values + visible.begin * dim, 1, dim}, dim,
                                  buffers.scores + visible.begin * panel, panel,
                                  visible.end - visible.begin, vectors, buffers.output + row,
                                  stride, buffers.factor + row);
  }
}

/// visit_tile with products of pairs.
void visit_tile_pairs(const TileView& view, int64_t key, int64_t key_count, const ForwardTask& task,
                      const ForwardBuffers& buffers) {
  const F32 d;
  const int64_t n = lanes();
  const int64_t stride = buffers.padded_rows;
  const int64_t pairs = pairs_of(task.shape.head_dim);
  const float unit = task.shape.scale * kLog2E;
  const auto* query = reinterpret_cast<const uint32_t*>(buffers.query);
  const auto* keys = reinterpret_cast<const uint32_t*>(buffers.keys);
  const auto* values = reinterpret_cast<const uint32_t*>(buffers.values);
  auto* exponentials = reinterpret_cast<uint32_t*>(buffers.scores + kKeyTile * kPairPanel);
  for (int64_t row = 0; row < stride; row += kPairPanel) {
    const int64_t columns = std::min(kPairPanel, stride - row);
    const Visible visible = visible_keys(view, row, columns, key, key_count);
    if (visible.end <= visible.begin) continue;
    const int64_t first = visible.begin / 16 * 16;
    task.products->multiply(keys + first * pairs, pairs, round_up(visible.end, 16) - first,
                            query + row, stride, pairs, columns,
                            buffers.scores + first * kPairPanel, kPairPanel, false);
    const int64_t begin = visible.begin / kPairKeys * (kPairKeys / 2);
    const int64_t end = round_up(visible.end, kPairKeys) / 2;
    for (int64_t v = 0; v < columns; v += n) {
      online_softmax_pairs(buffers, row + v, buffers.scores + v, exponentials + v, begin, end, key,
                           visible, view.window, unit);
      const Vec factor = hn::Load(d, buffers.factor + row + v);
      for (int64_t i = 0; i < buffers.padded_dim; ++i) {
        float* at = buffers.output + i * stride + row + v;
        hn::Store(hn::Mul(hn::Load(d, at), factor), d, at);
      }
    }
    task.products->multiply(values + begin, kKeyTile / 2, buffers.padded_dim,
                            exponentials + begin * kPairPanel, kPairPanel, end - begin, columns,
                            buffers.output + row, stride, true);
  }
}

template <class T>
void store_output(const ForwardTask& task, const QueryTile& tile, int64_t kv_head,
                  const ForwardBuffers& buffers) {
  const AttentionShape& shape = task.shape;
  const int64_t group = shape.group();
  const int64_t rows = tile.count * group;
  auto* o = static_cast<T*>(task.o.data);
  for (int64_t r = 0; r < rows; r += kStaged) {
    transpose(buffers.output + r, buffers.padded_rows, buffers.padded_dim, kStaged, buffers.staging,
              buffers.padded_dim);
    for (int64_t i = 0; i < std::min(kStaged, rows - r); ++i) {
      const int64_t token = tile.first + (r + i) / group;
      const int64_t head = kv_head * group + (r + i) % group;
      const float sum = buffers.sum[r + i];
      narrow_row(buffers.staging + i * buffers.padded_dim, shape.head_dim, 1.0F / sum,
                 o + token * task.o.stride + head * shape.head_dim);
      if (task.lse != nullptr) {
        task.lse[head * task.tokens + token] = buffers.max[r + i] * kLn2 + std::log(sum);
      }
    }
  }
}

template <class T>
void store_nothing_seen(const ForwardTask& task, const QueryTile& tile, int64_t kv_head) {
  const AttentionShape& shape = task.shape;
  const int64_t group = shape.group();
  for (int64_t token = tile.first; token < tile.first + tile.count; ++token) {
    T* o = static_cast<T*>(task.o.data) + token * task.o.stride + kv_head * group * shape.head_dim;
    std::fill_n(o, group * shape.head_dim, T{});
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      if (task.lse != nullptr) {
        task.lse[head * task.tokens + token] = -std::numeric_limits<float>::infinity();
      }
    }
  }
}

template <class T>
void visit_keys(const ForwardTask& task, const TileView& view, int64_t kv_head,
                const ForwardBuffers& buffers) {
  const int64_t dim = task.shape.head_dim;
  const int64_t column = kv_head * dim;
  for (int64_t key = view.first_key + view.first_tile(); key < view.end_key(); key += kKeyTile) {
    const int64_t count = std::min(kKeyTile, view.end_key() - key);
    load_tile<T>(task.k, key, count, column, dim, buffers.keys, buffers.padded_dim);
    load_tile<T>(task.v, key, count, column, dim, buffers.values, buffers.padded_dim);
    visit_tile(view, key, count, buffers);
  }
}

void visit_keys_pairs(const ForwardTask& task, const TileView& view, int64_t kv_head,
                      const ForwardBuffers& buffers) {
  const int64_t dim = task.shape.head_dim;
  const auto at = [&](const TokenInput& matrix, int64_t key) {
    return static_cast<const BFloat16*>(matrix.data) + key * matrix.stride + kv_head * dim;
  };
  task.products->begin();
  for (int64_t key = view.first_key + view.first_tile(); key < view.end_key(); key += kKeyTile) {
    const int64_t count = std::min(kKeyTile, view.end_key() - key);
    load_rows_as_pairs(at(task.k, key), task.k.stride, count, dim,
                       reinterpret_cast<uint32_t*>(buffers.keys), pairs_of(dim));
    load_columns_as_pairs(at(task.v, key), task.v.stride, count, dim,
                          reinterpret_cast<uint32_t*>(buffers.staging),
                          reinterpret_cast<uint32_t*>(buffers.values), buffers.padded_dim);
    visit_tile_pairs(view, key, count, task, buffers);
  }
  task.products->end();
}

template <class T>
void run_item(const ForwardTask& task, int64_t index, ForwardBuffers buffers) {
  const AttentionShape& shape = task.shape;
  // Late tiles see the most keys: they go first.
  const QueryTile& tile = task.tiles[task.tile_count - 1 - index / shape.kv_heads];
  const int64_t kv_head = index % shape.kv_heads;
  if (tile.document == kNoKeys) return store_nothing_seen<T>(task, tile, kv_head);
  buffers.padded_rows = round_up(tile.count * shape.group(), 16);
  start_rows(task, tile, buffers);
  const TileView view{.first_query = task.key_row + tile.first,
                      .queries = tile.count,
                      .group = shape.group(),
                      .first_key = tile.document,
                      .window = shape.window};
  if (task.products != nullptr) {
    load_query_pairs(task, tile, kv_head, buffers);
    visit_keys_pairs(task, view, kv_head, buffers);
  } else {
    load_queries<T>(task, tile, kv_head, buffers);
    visit_keys<T>(task, view, kv_head, buffers);
  }
  store_output<T>(task, tile, kv_head, buffers);
}

void run_forward_item(const ForwardTask& task, int64_t index, const ForwardBuffers& buffers) {
  if (task.shape.type == DType::bf16) {
    run_item<BFloat16>(task, index, buffers);
  } else {
    run_item<float>(task, index, buffers);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace snug {
namespace {

HWY_EXPORT(run_forward_item);

constexpr std::int64_t kPanel = 48;  // the widest panel of rows of any instruction set

std::int64_t padded_rows(const AttentionShape& shape) {
  return round_up(queries_per_tile(shape) * shape.group(), 16);
}

// The order and sizes of take_buffers below.
std::int64_t buffer_bytes(const AttentionShape& shape) {
  const std::int64_t rows = padded_rows(shape);
  const std::int64_t dim = round_up(shape.head_dim, 16);
  return scratch_bytes(
      2 * dim * rows + 2 * kKeyTile * dim + kKeyTile * kPanel + kKeyTile / 2 * dim + 4 * rows,
      sizeof(float));
}

ForwardBuffers take_buffers(const AttentionShape& shape, float* area) {
  ForwardBuffers buffers{};
  const std::int64_t rows = padded_rows(shape);
  const std::int64_t dim = round_up(shape.head_dim, 16);
  const auto take = [&area](std::int64_t count) { return std::exchange(area, area + count); };
  buffers.padded_rows = rows;
  buffers.padded_dim = dim;
  buffers.query = take(dim * rows);
  buffers.output = take(dim * rows);
  buffers.keys = take(kKeyTile * dim);
  buffers.values = take(kKeyTile * dim);
  buffers.scores = take(kKeyTile * kPanel);
  buffers.staging = take(kKeyTile / 2 * dim);
  buffers.max = take(rows);
  buffers.sum = take(rows);
  buffers.factor = take(rows);
  buffers.at = reinterpret_cast<std::int32_t*>(take(rows));
  return buffers;
}

const PairProducts* products_of(const AttentionShape& shape) {
  return shape.type == DType::bf16 ? pair_products(shape.isa) : nullptr;
}

void run_task(const ForwardTask& task, Scratch& scratch, ThreadPool& pool) {
  const std::int64_t worker_floats = buffer_bytes(task.shape) / std::int64_t{sizeof(float)};
  auto* area = scratch.take<float>(worker_floats * pool.threads());
  choose_target();
  const auto item = HWY_DYNAMIC_DISPATCH(run_forward_item);
  pool.run(task.tile_count * task.shape.kv_heads, [&](std::int64_t index, int worker) {
    item(task, index, take_buffers(task.shape, area + worker * worker_floats));
  });
}

}  // namespace

std::int64_t attention_forward_scratch(const AttentionShape& shape, std::int64_t tokens,
                                       int threads) {
  return scratch_bytes(tokens, sizeof(QueryTile)) + buffer_bytes(shape) * threads;
}

void attention_forward(const AttentionForward& call, std::span<std::byte> scratch,
                       ThreadPool& pool) {
  check_attention(call.shape);
  Scratch rest(scratch);
  auto* tiles = rest.take<QueryTile>(call.tokens);
  const std::int64_t count = make_query_tiles(call.shape, call.doc_start, call.tokens, tiles);
  run_task({call.shape, call.q, call.k, call.v, call.o, call.lse, call.tokens, 0, tiles, count,
            products_of(call.shape)},
           rest, pool);
}

void attention_cached(const AttentionCached& call, std::span<std::byte> scratch, ThreadPool& pool) {
  check_attention(call.shape);
  Scratch rest(scratch);
  auto* tiles = rest.take<QueryTile>(call.queries);
  const std::int64_t most = queries_per_tile(call.shape);
  std::int64_t count = 0;
  for (std::int64_t first = 0; first < call.queries; first += most) {
    tiles[count++] = {static_cast<std::int32_t>(first),
                      static_cast<std::int32_t>(std::min(most, call.queries - first)), 0};
  }
  run_task({call.shape, call.q, call.k, call.v, call.o, nullptr, call.queries, call.position, tiles,
            count, products_of(call.shape)},
           rest, pool);
}

}  // namespace snug
#endif
