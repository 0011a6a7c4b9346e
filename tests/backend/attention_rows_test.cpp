// Attention's bits where they must not change: by place, by what follows, by decoding.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "backend/attention_testing.h"
#include "core/error.h"

namespace snug {
namespace {

template <class T>
using Problem = testing::AttentionProblem<T>;
using testing::Guarded;
using testing::product_isas;
using testing::ScratchArea;

// A document of 150 tokens alone, and the same behind two others in one packed row.
template <class T>
void expect_place_does_not_matter(Isa isa) {
  for (const std::int64_t window : {0, 50}) {
    Problem<T> alone({"alone", {150}, 6, 2, 40, window}, isa);
    Problem<T> packed({"packed", {77, -2, 150, 9}, 6, 2, 40, window}, isa);
    const std::int64_t shift = 79;
    for (auto member : {&Problem<T>::q, &Problem<T>::grad_o}) {
      std::copy_n((alone.*member).data(), alone.q.size(),
                  (packed.*member).data() + shift * packed.q_stride);
    }
    for (auto member : {&Problem<T>::k, &Problem<T>::v}) {
      std::copy_n((alone.*member).data(), alone.k.size(),
                  (packed.*member).data() + shift * packed.k_stride);
    }
    for (auto* p : {&alone, &packed}) {
      p->forward(1);
      p->backward(1);
    }
    for (std::int64_t t = 0; t < alone.tokens; ++t) {
      for (std::int64_t i = 0; i < std::int64_t{6} * 40; ++i) {
        const std::int64_t a = t * alone.q_stride + i;
        const std::int64_t b = (t + shift) * packed.q_stride + i;
        ASSERT_EQ(alone.o.at(a), packed.o.at(b));
        ASSERT_EQ(alone.grad_q.at(a), packed.grad_q.at(b));
      }
      for (std::int64_t i = 0; i < std::int64_t{2} * 40; ++i) {
        const std::int64_t a = t * alone.k_stride + i;
        const std::int64_t b = (t + shift) * packed.k_stride + i;
        ASSERT_EQ(alone.grad_k.at(a), packed.grad_k.at(b));
        ASSERT_EQ(alone.grad_v.at(a), packed.grad_v.at(b));
      }
    }
  }
}

TEST(AttentionRows, ADocumentsBitsDoNotDependOnItsPlace) {
  expect_place_does_not_matter<float>(Isa::avx2);
  for (const Isa isa : product_isas()) expect_place_does_not_matter<BFloat16>(isa);
}

// The first 83 tokens have the same bits whether or not more follow.
TEST(AttentionRows, ATokensBitsDoNotDependOnLaterTokens) {
  for (const Isa isa : product_isas()) {
    Problem<BFloat16> part({"part", {83}, 9, 3, 64}, isa);
    Problem<BFloat16> whole({"whole", {200}, 9, 3, 64}, isa);
    std::copy_n(whole.q.data(), part.q.size(), part.q.data());
    std::copy_n(whole.k.data(), part.k.size(), part.k.data());
    std::copy_n(whole.v.data(), part.v.size(), part.v.data());
    part.forward(1);
    whole.forward(1);
    for (std::int64_t t = 0; t < part.tokens; ++t) {
      for (std::int64_t i = 0; i < std::int64_t{9} * 64; ++i) {
        ASSERT_EQ(part.o[t * part.q_stride + i].bits, whole.o[t * part.q_stride + i].bits);
      }
    }
  }
}

// Prefill of `first` tokens, then decoding one by one, gives the bits of one pass over all.
TEST(AttentionCache, DecodingHasTheBitsOfOnePass) {
  for (const std::int64_t window : {0, 30}) {
    for (const Isa isa : product_isas()) {
      Problem<BFloat16> p({"cached", {140}, 6, 2, 24, window}, isa);
      p.forward(2);
      const std::int64_t row = std::int64_t{6} * 24;
      Guarded<BFloat16> out(p.tokens * row);
      ThreadPool pool(2);
      for (std::int64_t position = 0; position < p.tokens;) {
        const std::int64_t queries = position == 0 ? 67 : 1;
        ScratchArea scratch(attention_forward_scratch(p.shape, queries, 2));
        // Only the rows that exist so far: whatever lies behind them must not matter.
        const std::int64_t keys = (position + queries) * p.k_stride;
        Guarded<BFloat16> k(keys);
        Guarded<BFloat16> v(keys);
        std::copy_n(p.k.data(), keys, k.data());
        std::copy_n(p.v.data(), keys, v.data());
        attention_cached({p.shape,
                          queries,
                          position,
                          {p.q.data() + position * p.q_stride, p.q_stride},
                          {k.data(), p.k_stride},
                          {v.data(), p.k_stride},
                          {out.data() + position * row, row}},
                         scratch.span(), pool);
        position += queries;
      }
      out.expect_guards_untouched();
      for (std::int64_t t = 0; t < p.tokens; ++t) {
        for (std::int64_t i = 0; i < row; ++i) {
          ASSERT_EQ(out[t * row + i].bits, p.o[t * p.q_stride + i].bits) << t << " " << i;
        }
      }
    }
  }
}

TEST(AttentionErrors, AMalformedDocumentIsRefused) {
  Problem<float> p({"bad", {10}, 1, 1, 8});
  p.start[4] = 2;
  EXPECT_THROW(p.forward(1), InternalError);
}

TEST(AttentionErrors, NaNReachesTheOutput) {
  Problem<float> p({"nan", {10}, 1, 1, 8});
  p.q[3 * p.q_stride] = NAN;
  p.forward(1);
  EXPECT_TRUE(std::isnan(p.o[3 * p.q_stride]));
  EXPECT_FALSE(std::isnan(p.o[4 * p.q_stride]));
}

}  // namespace
}  // namespace snug
