// Attention's backward tile with products of pairs of bf16. Included once per Highway target, so no
// #pragma once.

#if defined(SNUG_BACKEND_CPU_ATTENTION_BACKWARD_PAIRS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SNUG_BACKEND_CPU_ATTENTION_BACKWARD_PAIRS_INL_H_
#undef SNUG_BACKEND_CPU_ATTENTION_BACKWARD_PAIRS_INL_H_
#else
#define SNUG_BACKEND_CPU_ATTENTION_BACKWARD_PAIRS_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

#include "backend/cpu/attention_backward.h"
#include "backend/cpu/attention_backward_buffers.h"
#include "backend/cpu/attention_pairs-inl.h"
#include "backend/cpu/attention_products.h"
#include "backend/cpu/scratch.h"

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {

HWY_INLINE uint32_t* pairs_at(float* array) { return reinterpret_cast<uint32_t*>(array); }

/// The rows of q or do of a query tile: as pairs of rows [P / 2, D], and as pairs along the head,
/// transposed, [H, P].
HWY_INLINE void load_query_rows(const TokenInput& matrix, const AttentionShape& shape,
                                const QueryTile& tile, int64_t kv_head,
                                const BackwardBuffers& buffers, uint32_t* rows_in_pairs,
                                uint32_t* transposed) {
  const int64_t rows = tile.count * shape.group();
  const int64_t pairs = pairs_of(shape.head_dim);
  uint32_t* staging = pairs_at(buffers.staging);
  const auto row = [&](int64_t r) {
    const int64_t token = tile.first + r / shape.group();
    const int64_t head = kv_head * shape.group() + r % shape.group();
    return static_cast<const BFloat16*>(matrix.data) + token * matrix.stride +
           head * shape.head_dim;
  };
  for (int64_t r = 0; r < buffers.padded_rows; r += kStaged) {
    for (int64_t i = 0; i < kStaged; ++i) {
      const BFloat16* from = row_or_null(row, r + i, rows);
      copy_pairs(from, from != nullptr ? shape.head_dim : 0, staging + i * pairs, pairs);
      if (i % 2 != 0) continue;
      interleave_rows(from, row_or_null(row, r + i + 1, rows), shape.head_dim,
                      rows_in_pairs + (r + i) / 2 * buffers.padded_dim, buffers.padded_dim);
    }
    transpose_pairs(staging, pairs, kStaged, pairs, transposed + r, buffers.padded_rows);
  }
}

/// score_gradient for one vector of rows: s and dp [kKeyTile, kPairPanel] become p and ds, rows of
/// bf16 in `p_row` and `ds_row` [.., padded_rows], and ds in pairs of keys; zero where a key of
/// [0, padded_count) is not seen.
struct ScorePanels {
  const float* score;
  const float* grad_probability;
  uint32_t* grad_score_pairs;
  uint16_t* p_row;
  uint16_t* ds_row;
};

HWY_INLINE void score_gradient_pairs(const BackwardBuffers& buffers, const ScorePanels& panels,
                                     int64_t row, int64_t key, int64_t padded_count,
                                     const Visible& visible, int64_t window, float unit) {
  const F32 d;
  const U32 du;
  const U16 du16;
  const int64_t stride = buffers.padded_rows;
  const Vec lse = hn::Load(d, buffers.lse + row);
  const Vec delta = hn::Load(d, buffers.delta + row);
  const Vec by = hn::Set(d, unit);
  const auto at = hn::Load(I32(), buffers.at + row);
  const auto one_key = [&](int64_t j) HWY_ATTR {
    auto p_words = hn::Zero(du);
    auto ds_words = hn::Zero(du);
    if (j >= visible.begin && j < visible.end) {
      const Vec score = hn::Load(d, panels.score + j * kPairPanel);
      Vec p = exp2_nonpositive(hn::MulSub(score, by, lse));
      if (!visible.all) p = hn::IfThenElseZero(sees(at, key + j, window), p);
      const Vec grad_p = hn::Load(d, panels.grad_probability + j * kPairPanel);
      p_words = narrow_words(p);
      ds_words = narrow_words(hn::Mul(p, hn::Sub(grad_p, delta)));
    }
    hn::StoreU(hn::TruncateTo(du16, p_words), du16, panels.p_row + j * stride);
    hn::StoreU(hn::TruncateTo(du16, ds_words), du16, panels.ds_row + j * stride);
    return ds_words;
  };
  for (int64_t j = 0; j < padded_count; j += 2) {
    const auto first = one_key(j);
    const auto second = one_key(j + 1);
    hn::Store(hn::Or(first, hn::ShiftLeft<16>(second)), du,
              panels.grad_score_pairs + j / 2 * kPairPanel);
  }
}

/// dq += ds k of one key tile, and p and ds for add_key_gradients_pairs.
HWY_INLINE void visit_rows_pairs(const TileView& view, int64_t key, int64_t key_count,
                                 const AttentionShape& shape, const PairProducts& products,
                                 const BackwardBuffers& buffers) {
  const int64_t n = lanes();
  const int64_t stride = buffers.padded_rows;
  const int64_t pairs = pairs_of(shape.head_dim);
  const float unit = shape.scale * kLog2E;
  float* score = buffers.grad_score;
  float* grad_probability = score + kKeyTile * kPairPanel;
  uint32_t* grad_score = pairs_at(grad_probability + kKeyTile * kPairPanel);
  auto* p_rows = reinterpret_cast<uint16_t*>(buffers.probability);
  uint16_t* ds_rows = p_rows + kKeyTile * stride;
  for (int64_t row = 0; row < stride; row += kPairPanel) {
    const bool used = row < view.rows();
    const Visible visible =
        used ? visible_keys(view, row, kPairPanel, key, key_count) : Visible{0, 0, true};
    const bool some = visible.end > visible.begin;
    if (some) {
      const int64_t first = visible.begin / 16 * 16;
      const int64_t count = round_up(visible.end, 16) - first;
      products.multiply(pairs_at(buffers.keys) + first * pairs, pairs, count,
                        pairs_at(buffers.query_scaled) + row, stride, pairs, kPairPanel,
                        score + first * kPairPanel, kPairPanel, false);
      products.multiply(pairs_at(buffers.values) + first * pairs, pairs, count,
                        pairs_at(buffers.grad_output_t) + row, stride, pairs, kPairPanel,
                        grad_probability + first * kPairPanel, kPairPanel, false);
    }
    for (int64_t v = 0; v < kPairPanel; v += n) {
      const ScorePanels panels{score + v, grad_probability + v, grad_score + v, p_rows + row + v,
                               ds_rows + row + v};
      score_gradient_pairs(buffers, panels, row + v, key, round_up(key_count, kPairKeys), visible,
                           view.window, unit);
    }
    if (!some) continue;
    const int64_t begin = visible.begin / kPairKeys * (kPairKeys / 2);
    const int64_t end = round_up(visible.end, kPairKeys) / 2;
    products.multiply(pairs_at(buffers.keys_t) + begin, kKeyTile / 2, buffers.padded_dim,
                      grad_score + begin * kPairPanel, kPairPanel, end - begin, kPairPanel,
                      buffers.grad_query + row, stride, true);
  }
}

/// dv += p^T do and dk += ds^T q of one key tile, from the rows [begin, end) for each 32 keys.
template <class SeeingRows>
HWY_INLINE void add_key_gradients_pairs(const TileView& view, int64_t key, int64_t key_count,
                                        const PairProducts& products,
                                        const BackwardBuffers& buffers,
                                        const SeeingRows& seeing_rows) {
  const int64_t dim = buffers.padded_dim;
  const int64_t half = buffers.padded_rows / 2;
  const uint32_t* p_rows = pairs_at(buffers.probability);
  const uint32_t* ds_rows = p_rows + kKeyTile * half;
  for (int64_t j = 0; j < key_count; j += kPairKeys) {
    const int64_t keys = std::min(kPairKeys, round_up(key_count - j, 16));
    const auto [from, to] = seeing_rows(view, key + j, keys);
    if (from >= to) continue;
    const int64_t begin = from / 32 * 16;
    const int64_t pairs = round_up(to, 32) / 2 - begin;
    const int64_t into = (key - view.first_key + j) * dim;
    products.multiply(p_rows + j * half + begin, half, keys,
                      pairs_at(buffers.grad_output) + begin * dim, dim, pairs, dim,
                      buffers.document_grad_v + into, dim, true);
    products.multiply(ds_rows + j * half + begin, half, keys, pairs_at(buffers.query) + begin * dim,
                      dim, pairs, dim, buffers.document_grad_k + into, dim, true);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#endif  // include guard
