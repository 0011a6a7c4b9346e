#pragma once
// From logits to the next token.

#include <cstdint>
#include <span>
#include <vector>

namespace snug {

/// How a token is chosen. Without `draw` the likeliest is taken and the rest is not read.
struct SamplingRule {
  bool draw = false;
  double temperature = 1;  ///< logits are divided by it
  double top_p = 1;        ///< only the likeliest tokens that together reach this probability
  std::uint64_t seed = 0;
};

/// The index of the largest logit, the first among equals. UserError when one is NaN.
std::int32_t likeliest(std::span<const float> logits);

/// A token and its probability times a constant.
struct WeightedToken {
  std::int32_t token = 0;
  double weight = 0;
};

/// Tokens that may be drawn, into `candidates`: softmax weights after the temperature, cut to the
/// smallest set of the likeliest whose share reaches top_p (Holtzman et al. 2020,
/// arXiv:1904.09751); at least one token, the lower id first among equals. Uncut sets stay in the
/// order of ids. UserError when a logit is NaN.
void nucleus(std::span<const float> logits, double temperature, double top_p,
             std::vector<WeightedToken>& candidates);

/// Chooses tokens by one rule. A draw depends on the seed, the token's index and the logits alone.
class Sampler {
 public:
  explicit Sampler(const SamplingRule& rule) : rule_(rule) {}
  /// The token that stands at `index` of the generated text.
  std::int32_t choose(std::span<const float> logits, std::int64_t index);

 private:
  SamplingRule rule_;
  std::vector<WeightedToken> candidates_;
};

}  // namespace snug
