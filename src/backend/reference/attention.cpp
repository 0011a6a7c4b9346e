// Attention over documents, its gradient, and attention over a cache.

#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/reference/elements.h"
#include "backend/reference/kernels.h"

namespace snug::reference {
namespace {

/// Keys [first, last] that a query sees; none when first > last.
struct Visible {
  std::int64_t first;
  std::int64_t last;
};

/// Queries, keys and values of one call and how heads share them.
struct Heads {
  explicit Heads(const KernelCall& call)
      : q(input(call, 0)),
        k(input(call, 1)),
        v(input(call, 2)),
        window(call.attributes.integer("window")),
        scale(call.attributes.real("scale")),
        heads(q.shape()[1]),
        groups(k.shape()[1]),
        width(q.shape()[2]) {}

  std::int64_t query(std::int64_t t, std::int64_t h) const { return (t * heads + h) * width; }
  std::int64_t key(std::int64_t s, std::int64_t h) const {
    return (s * groups + h / (heads / groups)) * width;
  }
  double score(std::int64_t t, std::int64_t s, std::int64_t h) const {
    double sum = 0.0;
    for (std::int64_t j = 0; j < width; ++j) sum += q[query(t, h) + j] * k[key(s, h) + j];
    return sum * scale;
  }
  Visible seen(std::int64_t row, std::int64_t start) const {
    return {std::max(start, window > 0 ? row - window + 1 : std::int64_t{0}), row};
  }

  Elements q, k, v;
  std::int64_t window;
  double scale;
  std::int64_t heads, groups, width;
};

/// One query row and head: softmax of its scores times the values, into `o`; returns the
/// log-sum-exp. `powers` has room for a double a key.
double attend(const Heads& a, std::int64_t t, std::int64_t h, Visible seen, const Elements& o,
              double* powers) {
  double peak = -std::numeric_limits<double>::infinity();
  for (std::int64_t s = seen.first; s <= seen.last; ++s) {
    powers[s] = a.score(t, s, h);
    peak = std::max(peak, powers[s]);
  }
  double sum = 0.0;
  for (std::int64_t s = seen.first; s <= seen.last; ++s) {
    powers[s] = std::exp(powers[s] - peak);
    sum += powers[s];
  }
  for (std::int64_t j = 0; j < a.width; ++j) {
    double value = 0.0;
    for (std::int64_t s = seen.first; s <= seen.last; ++s) {
      value += powers[s] * a.v[a.key(s, h) + j];
    }
    o.set(a.query(t, h) + j, seen.first > seen.last ? 0.0 : value / sum);
  }
  return peak + std::log(sum);
}

std::int64_t grant_keys(const KernelQuery& query) { return 8 * query.inputs[1].type.shape[0]; }

void attention(const KernelCall& call) {
  const Heads a(call);
  const Elements start = input(call, 3);
  const Elements o = output(call, 0);
  const Elements lse = output(call, 1);
  const std::int64_t tokens = a.q.shape()[0];
  for (std::int64_t t = 0; t < tokens; ++t) {
    const Visible seen = a.seen(t, start.integer(t));
    for (std::int64_t h = 0; h < a.heads; ++h) {
      lse.set(h * tokens + t, attend(a, t, h, seen, o, scratch(call)));
    }
  }
}

void attention_cached(const KernelCall& call) {
  const Heads a(call);
  const std::int64_t position = input(call, 3).integer(0);
  const std::int64_t tokens = a.q.shape()[0];
  check(position >= 0 && position + tokens <= a.k.shape()[0],
        "{} tokens from position {} of a cache of {} rows", tokens, position, a.k.shape()[0]);
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t h = 0; h < a.heads; ++h) {
      attend(a, t, h, a.seen(position + t, 0), output(call, 0), scratch(call));
    }
  }
}

/// Probability and score gradient of a visible pair.
struct Pair {
  double p;
  double ds;
};

class Backward {
 public:
  explicit Backward(const KernelCall& call)
      : a_(call),
        start_(input(call, 3)),
        o_(input(call, 4)),
        lse_(input(call, 5)),
        do_(input(call, 6)),
        dq_(output(call, 0)),
        dk_(output(call, 1)),
        dv_(output(call, 2)),
        sums_(scratch(call)),
        tokens_(a_.q.shape()[0]) {}

  void run() const {
    for (std::int64_t t = 0; t < tokens_; ++t) {
      for (std::int64_t h = 0; h < a_.heads; ++h) query_gradient(t, h);
    }
    for (std::int64_t s = 0; s < tokens_; ++s) {
      for (std::int64_t g = 0; g < a_.groups; ++g) key_gradient(s, g);
    }
  }

 private:
  Pair pair(std::int64_t t, std::int64_t s, std::int64_t h) const {
    double dp = 0.0;
    for (std::int64_t j = 0; j < a_.width; ++j) {
      const std::int64_t at = a_.query(t, h) + j;
      dp += do_[at] * (a_.v[a_.key(s, h) + j] - o_[at]);
    }
    const double p = std::exp(a_.score(t, s, h) - lse_[h * tokens_ + t]);
    return {p, a_.scale * p * dp};
  }

  void query_gradient(std::int64_t t, std::int64_t h) const {
    std::fill_n(sums_, a_.width, 0.0);
    const Visible seen = a_.seen(t, start_.integer(t));
    for (std::int64_t s = seen.first; s <= seen.last; ++s) {
      const Pair at = pair(t, s, h);
      for (std::int64_t j = 0; j < a_.width; ++j) sums_[j] += at.ds * a_.k[a_.key(s, h) + j];
    }
    for (std::int64_t j = 0; j < a_.width; ++j) dq_.set(a_.query(t, h) + j, sums_[j]);
  }

  void key_gradient(std::int64_t s, std::int64_t g) const {
    const std::int64_t share = a_.heads / a_.groups;
    std::fill_n(sums_, 2 * a_.width, 0.0);
    for (std::int64_t t = s; t < tokens_; ++t) {
      if (a_.seen(t, start_.integer(t)).first > s) continue;
      for (std::int64_t h = g * share; h < (g + 1) * share; ++h) {
        const Pair at = pair(t, s, h);
        for (std::int64_t j = 0; j < a_.width; ++j) {
          sums_[j] += at.ds * a_.q[a_.query(t, h) + j];
          sums_[a_.width + j] += at.p * do_[a_.query(t, h) + j];
        }
      }
    }
    for (std::int64_t j = 0; j < a_.width; ++j) {
      dk_.set(a_.key(s, g * share) + j, sums_[j]);
      dv_.set(a_.key(s, g * share) + j, sums_[a_.width + j]);
    }
  }

  Heads a_;
  Elements start_, o_, lse_, do_, dq_, dk_, dv_;
  double* sums_;
  std::int64_t tokens_;
};

std::int64_t grant_two_heads(const KernelQuery& query) {
  return std::int64_t{2} * 8 * query.inputs[0].type.shape[2];
}

void attention_grad(const KernelCall& call) { Backward(call).run(); }

void cache_write(const KernelCall& call) {
  const Elements x = input(call, 1);
  const std::int64_t position = input(call, 2).integer(0);
  const Elements cache = output(call, 0);
  const std::int64_t row = x.shape()[1] * x.shape()[2];
  check(position >= 0 && position + x.shape()[0] <= cache.shape()[0],
        "{} tokens at position {} of a cache of {} rows", x.shape()[0], position, cache.shape()[0]);
  for (std::int64_t i = 0; i < x.size(); ++i) cache.set(position * row + i, x[i]);
}

constexpr Kernel kKernels[] = {
    {.name = "reference_attention", .op = Op::attention, .grant = grant_keys, .run = attention},
    {.name = "reference_attention_grad",
     .op = Op::attention_grad,
     .grant = grant_two_heads,
     .run = attention_grad},
    {.name = "reference_attention_cached",
     .op = Op::attention_cached,
     .grant = grant_keys,
     .run = attention_cached},
    {.name = "reference_cache_write", .op = Op::cache_write, .run = cache_write},
};

}  // namespace

std::span<const Kernel> attentions() { return kKernels; }

}  // namespace snug::reference
