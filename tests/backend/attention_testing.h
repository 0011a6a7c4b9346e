#pragma once
// An attention under test: operands in rows wider than needed, between guards.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <ostream>
#include <string>
#include <vector>

#include "backend/cpu/attention_backward.h"
#include "backend/cpu/attention_forward.h"
#include "backend/kernel_testing.h"

namespace snug::testing {

/// Shapes and documents of an attention under test.
struct AttentionCase {
  std::string name;
  std::vector<int> documents;  // lengths; negative: tokens that see nothing
  std::int64_t heads;
  std::int64_t kv_heads;
  std::int64_t dim;
  std::int64_t window = 0;
};

inline void PrintTo(const AttentionCase& c, std::ostream* out) {
  *out << c.name;
}  // NOLINT: gtest's name

inline std::vector<std::int32_t> doc_starts(const AttentionCase& c) {
  std::vector<std::int32_t> starts;
  for (const int length : c.documents) {
    const auto begin = static_cast<std::int32_t>(starts.size());
    const bool padding = length < 0;
    for (int i = 0; i < std::abs(length); ++i) {
      starts.push_back(padding ? std::numeric_limits<std::int32_t>::max() : begin);
    }
  }
  return starts;
}

template <class T>
struct AttentionProblem {
  AttentionCase c;
  std::vector<std::int32_t> start;
  std::int64_t tokens;
  // Rows are wider than needed, as those of a fused projection are.
  std::int64_t q_stride = c.heads * c.dim + 3;
  std::int64_t k_stride = c.kv_heads * c.dim + 5;
  AttentionShape shape{dtype_of<T>(),
                       c.heads,
                       c.kv_heads,
                       c.dim,
                       static_cast<float>(1 / std::sqrt(static_cast<double>(c.dim))),
                       c.window};
  Guarded<T> q{tokens * q_stride}, k{tokens * k_stride}, v{tokens * k_stride},
      grad_o{tokens * q_stride};
  Guarded<T> o{tokens * q_stride}, grad_q{tokens * q_stride}, grad_k{tokens * k_stride},
      grad_v{tokens * k_stride};
  Guarded<float> lse{c.heads * tokens};

  explicit AttentionProblem(const AttentionCase& which, Isa isa = Isa::avx2)
      : c(which), start(doc_starts(which)), tokens(static_cast<std::int64_t>(start.size())) {
    shape.isa = isa;
    fill_normal(q, 1, 2);
    fill_normal(k, 2, 1);
    fill_normal(v, 3, 1);
    fill_normal(grad_o, 4, 1);
  }

  void forward(int threads) {
    ThreadPool pool(threads);
    ScratchArea scratch(attention_forward_scratch(shape, tokens, threads));
    attention_forward({shape,
                       tokens,
                       {q.data(), q_stride},
                       {k.data(), k_stride},
                       {v.data(), k_stride},
                       start.data(),
                       {o.data(), q_stride},
                       lse.data()},
                      scratch.span(), pool);
  }

  void backward(int threads) {
    ThreadPool pool(threads);
    ScratchArea scratch(attention_backward_scratch(shape, tokens, threads));
    attention_backward({shape,
                        tokens,
                        {q.data(), q_stride},
                        {k.data(), k_stride},
                        {v.data(), k_stride},
                        start.data(),
                        {o.data(), q_stride},
                        lse.data(),
                        {grad_o.data(), q_stride},
                        {grad_q.data(), q_stride},
                        {grad_k.data(), k_stride},
                        {grad_v.data(), k_stride}},
                       scratch.span(), pool);
  }
};

/// The instruction sets of this machine that differ in their products of bf16.
inline std::vector<Isa> product_isas() {
  std::vector<Isa> isas = {Isa::avx2};
  for (const Isa isa : {Isa::avx512_bf16, Isa::amx}) {
    if (isa <= allowed_isa()) isas.push_back(isa);
  }
  return isas;
}

}  // namespace snug::testing
