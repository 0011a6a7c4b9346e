#include "backend/cpu/adamw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "backend/kernel_testing.h"

namespace snug {
namespace {

using testing::Guarded;

struct Scalars {
  float lr = 0.1F, correction1 = 1, correction2 = 1;
  void at_step(int t, double beta1 = 0.9, double beta2 = 0.999) {
    correction1 = static_cast<float>(1 - std::pow(beta1, t));
    correction2 = static_cast<float>(1 - std::pow(beta2, t));
  }
};

// Two steps of torch 2.13's AdamW in fp64: lr 0.1, weight decay 0.1.
TEST(AdamW, GoldenValues) {
  Guarded<float> p(4), m(4), v(4), g(4);
  const std::vector<float> start = {1, -2, .5F, .25F};
  const std::vector<std::vector<float>> gradients = {{.1F, -.2F, .3F, .4F},
                                                     {-.05F, .1F, .2F, -.4F}};
  for (int i = 0; i < 4; ++i) {
    p[i] = start[static_cast<std::size_t>(i)];
    m[i] = v[i] = 0;
  }
  Scalars s;
  ThreadPool pool(1);
  for (int t = 1; t <= 2; ++t) {
    for (int i = 0; i < 4; ++i) {
      g[i] = gradients[static_cast<std::size_t>(t - 1)][static_cast<std::size_t>(i)];
    }
    s.at_step(t);
    adamw({.count = 4,
           .weight_type = DType::f32,
           .weight = p.data(),
           .gradient_type = DType::f32,
           .gradient = g.data(),
           .m = m.data(),
           .v = v.data(),
           .lr = &s.lr,
           .correction1 = &s.correction1,
           .correction2 = &s.correction2,
           .weight_decay = 0.1},
          pool);
  }
  const std::vector<double> want = {.85446631, -1.8345663, .29401479, .15128816};
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(p[i], want[static_cast<std::size_t>(i)], 3e-7);
}

template <class W, class G, class S>
struct Problem {
  std::int64_t count;
  bool has_master;
  const RandomStream* rounding;
  Guarded<W> weight{count};
  Guarded<float> master{count};
  Guarded<G> gradient{count};
  Guarded<S> m{count}, v{count};
  Scalars s;
  float clip = 0.37F;
  std::int32_t apply = 1;
  std::uint64_t first_element = 77;

  Problem(std::int64_t n, bool with_master, const RandomStream* stream)
      : count(n), has_master(with_master), rounding(stream) {
    testing::fill_normal(master, 1);
    for (std::int64_t i = 0; i < n; ++i) weight[i] = W(master[i]);
    testing::fill_normal(gradient, 2, 0.1);
    testing::fill_normal(m, 3, 0.01);
    testing::fill_normal(v, 4, 0.01);
    for (std::int64_t i = 0; i < n; ++i) v[i] = S(std::abs(static_cast<float>(v[i])));
    s.lr = 0.01F;
    s.at_step(3, 0.9, 0.95);
  }

  void run(int threads) {
    ThreadPool pool(threads);
    adamw({.count = count,
           .weight_type = testing::dtype_of<W>(),
           .weight = weight.data(),
           .master = has_master ? master.data() : nullptr,
           .gradient_type = testing::dtype_of<G>(),
           .gradient = gradient.data(),
           .state_type = testing::dtype_of<S>(),
           .m = m.data(),
           .v = v.data(),
           .lr = &s.lr,
           .correction1 = &s.correction1,
           .correction2 = &s.correction2,
           .clip = &clip,
           .apply = &apply,
           .beta2 = 0.95,
           .weight_decay = 0.1,
           .rounding = rounding,
           .first_element = first_element},
          pool);
  }

  template <class T>
  T stored(float value, std::int64_t i, std::uint32_t state, bool may_be_random) const {
    if constexpr (std::is_same_v<T, BFloat16>) {
      if (rounding != nullptr && may_be_random) {
        RandomStream stream = *rounding;
        stream.stream += state;
        return BFloat16::round_stochastic(
            value, stream.bits16(first_element + static_cast<std::uint64_t>(i)));
      }
    }
    return T(value);
  }

  // The header's formula in scalar f32, to the bit.
  void expect_bits_of(const Problem& before) const {
    const double lr = s.lr;
    const auto decay = static_cast<float>(1 - lr * 0.1);
    const auto step = static_cast<float>(lr / static_cast<double>(s.correction1));
    const auto inverse = static_cast<float>(1 / std::sqrt(static_cast<double>(s.correction2)));
    const auto rest1 = static_cast<float>(1 - 0.9);
    const auto rest2 = static_cast<float>(1 - 0.95);
    for (std::int64_t i = 0; i < count; ++i) {
      const float g = static_cast<float>(before.gradient[i]) * clip;
      float p = has_master ? before.master[i] : static_cast<float>(before.weight[i]);
      p = p * decay;
      const auto m0 = static_cast<float>(before.m[i]);
      const auto v0 = static_cast<float>(before.v[i]);
      const float m1 = m0 + rest1 * (g - m0);
      const float v1 = 0.95F * v0 + rest2 * (g * g);
      const float denominator = std::sqrt(v1) * inverse + 1e-8F;
      p = p - step * (m1 / denominator);
      ASSERT_EQ(m.at(i), static_cast<double>(static_cast<float>(stored<S>(m1, i, 1, true))));
      ASSERT_EQ(v.at(i), static_cast<double>(static_cast<float>(stored<S>(v1, i, 2, true))));
      ASSERT_EQ(weight.at(i),
                static_cast<double>(static_cast<float>(stored<W>(p, i, 0, !has_master))))
          << i;
      if (has_master) {
        ASSERT_EQ(master[i], p);
      }
    }
    weight.expect_guards_untouched();
    master.expect_guards_untouched();
    m.expect_guards_untouched();
    v.expect_guards_untouched();
  }
};

template <class W, class G, class S>
void expect_bits(std::int64_t count, bool master, const RandomStream* stream) {
  const Problem<W, G, S> before(count, master, stream);
  for (const int threads : {1, 2, 3}) {
    Problem<W, G, S> after(count, master, stream);
    after.run(threads);
    after.expect_bits_of(before);
  }
}

TEST(AdamW, HasTheBitsOfTheScalarFormula) {
  const RandomStream stream{.seed = 1, .stream = stream_hash("w"), .step = 9};
  for (const std::int64_t count : {1, 31, 20000}) {
    expect_bits<float, float, float>(count, false, nullptr);
    expect_bits<BFloat16, BFloat16, float>(count, true, nullptr);
    expect_bits<BFloat16, float, float>(count, true, nullptr);
    expect_bits<BFloat16, BFloat16, float>(count, false, &stream);
    expect_bits<BFloat16, BFloat16, BFloat16>(count, false, &stream);
    expect_bits<BFloat16, BFloat16, BFloat16>(count, true, &stream);
    expect_bits<BFloat16, BFloat16, BFloat16>(count, true, nullptr);
    expect_bits<BFloat16, BFloat16, float>(count, false, nullptr);
  }
}

TEST(AdamW, ASkippedStepChangesNothing) {
  Problem<BFloat16, BFloat16, float> p(100, true, nullptr);
  const auto before = p;
  p.apply = 0;
  p.run(2);
  EXPECT_TRUE(p.weight.same_bits(before.weight));
  EXPECT_TRUE(p.master.same_bits(before.master));
  EXPECT_TRUE(p.m.same_bits(before.m));
  EXPECT_TRUE(p.v.same_bits(before.v));
}

// A tensor updated in two pieces has the bits of one update.
TEST(AdamW, PiecesHaveTheBitsOfTheWhole) {
  const RandomStream stream{.seed = 3, .stream = 4, .step = 5};
  Problem<BFloat16, BFloat16, float> whole(1000, false, &stream);
  whole.run(1);
  Problem<BFloat16, BFloat16, float> pieces(1000, false, &stream);
  ThreadPool pool(1);
  for (const auto& [begin, count] : {std::pair{0, 333}, {333, 667}}) {
    adamw({.count = count,
           .weight_type = DType::bf16,
           .weight = pieces.weight.data() + begin,
           .gradient_type = DType::bf16,
           .gradient = pieces.gradient.data() + begin,
           .m = pieces.m.data() + begin,
           .v = pieces.v.data() + begin,
           .lr = &pieces.s.lr,
           .correction1 = &pieces.s.correction1,
           .correction2 = &pieces.s.correction2,
           .clip = &pieces.clip,
           .beta2 = 0.95,
           .weight_decay = 0.1,
           .rounding = &stream,
           .first_element = pieces.first_element + static_cast<std::uint64_t>(begin)},
          pool);
  }
  EXPECT_TRUE(whole.weight.same_bits(pieces.weight));
}

}  // namespace
}  // namespace snug
