#include "train/sampling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "core/error.h"

namespace snug {
namespace {

std::vector<std::int32_t> ids(const std::vector<WeightedToken>& tokens) {
  std::vector<std::int32_t> result;
  for (const WeightedToken& token : tokens) result.push_back(token.token);
  return result;
}

/// Logits of the given probabilities.
std::vector<float> logits_of(std::initializer_list<double> probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

TEST(Sampling, LikeliestIsTheFirstAmongEquals) {
  EXPECT_EQ(likeliest(std::vector<float>{-3, 2, 5, 5, 1}), 2);
  EXPECT_EQ(likeliest(std::vector<float>{-std::numeric_limits<float>::infinity(), -7}), 1);
}

TEST(Sampling, NotANumberIsAUserError) {
  const std::vector<float> logits = {1, std::numeric_limits<float>::quiet_NaN(), 2};
  EXPECT_THROW(likeliest(logits), UserError);
  EXPECT_THROW(Sampler({.draw = true}).choose(logits, 0), UserError);
}

TEST(Sampling, NucleusIsTheSmallestSetThatReachesTopP) {
  const std::vector<float> logits = logits_of({0.1, 0.4, 0.05, 0.3, 0.15});
  std::vector<WeightedToken> kept;
  nucleus(logits, 1, 0.69, kept);
  EXPECT_THAT(ids(kept), testing::ElementsAre(1, 3));
  nucleus(logits, 1, 0.71, kept);
  EXPECT_THAT(ids(kept), testing::ElementsAre(1, 3, 4));
  nucleus(logits, 1, 1e-9, kept);
  EXPECT_THAT(ids(kept), testing::ElementsAre(1));
  nucleus(logits, 1, 1, kept);
  EXPECT_THAT(ids(kept), testing::ElementsAre(0, 1, 2, 3, 4));
}

TEST(Sampling, NucleusTakesTheLowerIdAmongEquals) {
  std::vector<WeightedToken> kept;
  nucleus(std::vector<float>(6, 1.5F), 1, 0.5, kept);
  EXPECT_THAT(ids(kept), testing::ElementsAre(0, 1, 2));
}

TEST(Sampling, TemperatureSharpensBeforeTheCut) {
  // At temperature 1/2 the shares 0.5, 0.3, 0.2 become 0.66, 0.24, 0.11.
  const std::vector<float> logits = logits_of({0.5, 0.3, 0.2});
  std::vector<WeightedToken> kept;
  nucleus(logits, 1, 0.6, kept);
  EXPECT_THAT(ids(kept), testing::ElementsAre(0, 1));
  nucleus(logits, 0.5, 0.6, kept);
  EXPECT_THAT(ids(kept), testing::ElementsAre(0));
}

TEST(Sampling, DrawsFollowTheProbabilities) {
  const std::vector<double> wanted = {0.5, 0.125, 0.25, 0.125};
  const std::vector<float> logits = logits_of({0.5, 0.125, 0.25, 0.125});
  Sampler sampler({.draw = true, .seed = 7});
  constexpr int kDraws = 20000;
  std::vector<int> counts(wanted.size());
  for (int i = 0; i < kDraws; ++i) ++counts[static_cast<std::size_t>(sampler.choose(logits, i))];
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const double deviation = std::sqrt(kDraws * wanted[i] * (1 - wanted[i]));
    EXPECT_NEAR(counts[i], kDraws * wanted[i], 4 * deviation) << "token " << i;
  }
}

TEST(Sampling, DrawsStayInTheNucleus) {
  const std::vector<float> logits = logits_of({0.1, 0.4, 0.05, 0.3, 0.15});
  Sampler sampler({.draw = true, .top_p = 0.6, .seed = 3});
  for (int i = 0; i < 500; ++i) {
    EXPECT_THAT(sampler.choose(logits, i), testing::AnyOf(1, 3));
  }
}

TEST(Sampling, ADrawDependsOnSeedAndIndexAlone) {
  const std::vector<float> logits(1000, 0.0F);
  Sampler one({.draw = true, .seed = 1});
  Sampler other({.draw = true, .seed = 2});
  const std::int32_t third = one.choose(logits, 3);
  one.choose(logits, 8);
  EXPECT_EQ(one.choose(logits, 3), third);
  int different = 0;
  for (int i = 0; i < 20; ++i) different += one.choose(logits, i) != other.choose(logits, i);
  EXPECT_GT(different, 15);
}

}  // namespace
}  // namespace snug
