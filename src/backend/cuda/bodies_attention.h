#pragma once
// Attention for any head width: a thread a query row and head, or a key row and head. Nothing of
// the size of tokens x tokens is kept; scores are computed again for every few output columns.

#include "backend/cuda/view.h"

namespace snug::cuda {

/// Output columns that a thread sums at a time.
inline constexpr int kAttentionColumns = 32;

/// Queries, keys and values, and how heads share them.
struct Heads {
  View q, k, v;
  const std::int32_t* doc_start;  ///< nullptr: 0
  std::int64_t tokens, heads, groups, width, window;
  float scale;

  SNUG_HD std::int64_t query(std::int64_t t, std::int64_t h) const {
    return (t * heads + h) * width;
  }
  SNUG_HD std::int64_t key(std::int64_t s, std::int64_t h) const {
    return (s * groups + h / (heads / groups)) * width;
  }
  /// The first key that the query of token t at cache or sequence row `row` sees; the last is row.
  SNUG_HD std::int64_t first_key(std::int64_t t, std::int64_t row) const {
    std::int64_t first = doc_start != nullptr ? doc_start[t] : 0;
    if (window > 0 && row - window + 1 > first) first = row - window + 1;
    return first;
  }
  SNUG_HD float score(std::int64_t t, std::int64_t s, std::int64_t h) const {
    float sum = 0.0F;
    for (std::int64_t j = 0; j < width; ++j) sum += q.get(query(t, h) + j) * k.get(key(s, h) + j);
    return sum * scale;
  }
};

struct Attention {
  Heads a;
  const std::int32_t* position;  ///< of query 0 in the cache; nullptr: 0
  View o, lse;                   ///< lse need not be present
  SNUG_HD void operator()(std::int64_t i) const {
    const std::int64_t t = i / a.heads;
    const std::int64_t h = i % a.heads;
    const std::int64_t row = (position != nullptr ? *position : 0) + t;
    const std::int64_t first = a.first_key(t, row);
    float peak = -INFINITY;
    for (std::int64_t s = first; s <= row; ++s) peak = fmaxf(peak, a.score(t, s, h));
    float sum = 0.0F;
    for (std::int64_t s = first; s <= row; ++s) sum += expf(a.score(t, s, h) - peak);
    if (lse.present()) lse.set(h * a.tokens + t, peak + logf(sum));
    for (std::int64_t begin = 0; begin < a.width; begin += kAttentionColumns) {
      const std::int64_t left = a.width - begin;
      const int count = static_cast<int>(left < kAttentionColumns ? left : kAttentionColumns);
      float part[kAttentionColumns] = {};
      for (std::int64_t s = first; s <= row; ++s) {
        const float p = expf(a.score(t, s, h) - peak);
        for (int j = 0; j < count; ++j) part[j] += p * a.v.get(a.key(s, h) + begin + j);
      }
      for (int j = 0; j < count; ++j) {
        o.set(a.query(t, h) + begin + j, first > row ? 0.0F : part[j] / sum);
      }
    }
  }
};

/// What both gradient bodies read.
struct AttentionPairs {
  Heads a;
  View o, lse, d_o;

  /// The probability of a visible pair and the gradient of its score.
  SNUG_HD void pair(std::int64_t t, std::int64_t s, std::int64_t h, float& p, float& ds) const {
    float dp = 0.0F;
    for (std::int64_t j = 0; j < a.width; ++j) {
      const std::int64_t at = a.query(t, h) + j;
      dp += d_o.get(at) * (a.v.get(a.key(s, h) + j) - o.get(at));
    }
    p = expf(a.score(t, s, h) - lse.get(h * a.tokens + t));
    ds = a.scale * p * dp;
  }
};

struct AttentionQueryGradient {
  AttentionPairs pairs;
  View dq;
  SNUG_HD void operator()(std::int64_t i) const {
    const Heads& a = pairs.a;
    const std::int64_t t = i / a.heads;
    const std::int64_t h = i % a.heads;
    const std::int64_t first = a.first_key(t, t);
    for (std::int64_t begin = 0; begin < a.width; begin += kAttentionColumns) {
      const std::int64_t left = a.width - begin;
      const int count = static_cast<int>(left < kAttentionColumns ? left : kAttentionColumns);
      float part[kAttentionColumns] = {};
      for (std::int64_t s = first; s <= t; ++s) {
        float p = 0;
        float ds = 0;
        pairs.pair(t, s, h, p, ds);
        for (int j = 0; j < count; ++j) part[j] += ds * a.k.get(a.key(s, h) + begin + j);
      }
      for (int j = 0; j < count; ++j) dq.set(a.query(t, h) + begin + j, part[j]);
    }
  }
};

struct AttentionKeyGradient {
  AttentionPairs pairs;
  View dk, dv;
  SNUG_HD void operator()(std::int64_t i) const {
    const Heads& a = pairs.a;
    const std::int64_t s = i / a.groups;
    const std::int64_t share = a.heads / a.groups;
    const std::int64_t h0 = i % a.groups * share;
    for (std::int64_t begin = 0; begin < a.width; begin += kAttentionColumns) {
      const std::int64_t left = a.width - begin;
      const int count = static_cast<int>(left < kAttentionColumns ? left : kAttentionColumns);
      float key_part[kAttentionColumns] = {};
      float value_part[kAttentionColumns] = {};
      for (std::int64_t t = s; t < a.tokens; ++t) {
        if (a.first_key(t, t) > s) continue;
        for (std::int64_t h = h0; h < h0 + share; ++h) {
          float p = 0;
          float ds = 0;
          pairs.pair(t, s, h, p, ds);
          const std::int64_t at = a.query(t, h) + begin;
          for (int j = 0; j < count; ++j) {
            key_part[j] += ds * a.q.get(at + j);
            value_part[j] += p * pairs.d_o.get(at + j);
          }
        }
      }
      for (int j = 0; j < count; ++j) {
        dk.set(a.key(s, h0) + begin + j, key_part[j]);
        dv.set(a.key(s, h0) + begin + j, value_part[j]);
      }
    }
  }
};

}  // namespace snug::cuda
