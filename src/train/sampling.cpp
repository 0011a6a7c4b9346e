#include "train/sampling.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/philox.h"

namespace snug {
namespace {

/// Uniform in [0, 1), 53 bits.
double uniform(std::uint64_t seed, std::int64_t index) {
  const RandomStream stream{.seed = seed, .stream = stream_hash("generate/draw")};
  const PhiloxBlock block = stream.block(static_cast<std::uint64_t>(index));
  const std::uint64_t bits = (std::uint64_t{block[0]} << 21U) ^ (std::uint64_t{block[1]} >> 11U);
  return static_cast<double>(bits) * 0x1p-53;
}

/// The heap's order: its top is the likeliest token.
bool less_likely(const WeightedToken& a, const WeightedToken& b) {
  return a.weight < b.weight || (a.weight == b.weight && a.token > b.token);
}

double total_weight(std::span<const WeightedToken> tokens) {
  double total = 0;
  for (const WeightedToken& token : tokens) total += token.weight;
  return total;
}

/// Moves the likeliest tokens that together reach `wanted` to the front, likeliest first, and drops
/// the rest.
void keep_likeliest(std::vector<WeightedToken>& tokens, double wanted) {
  std::make_heap(tokens.begin(), tokens.end(), less_likely);
  auto end = tokens.end();
  double reached = 0;
  while (end != tokens.begin() && (end == tokens.end() || reached < wanted)) {
    std::pop_heap(tokens.begin(), end, less_likely);
    --end;
    reached += end->weight;
  }
  std::reverse(tokens.begin(), tokens.end());
  tokens.resize(static_cast<std::size_t>(tokens.end() - end));
}

}  // namespace

std::int32_t likeliest(std::span<const float> logits) {
  std::size_t best = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i])) {
      user_error(
          "the model's logits are not numbers (token {}): its weights are damaged, or training "
          "diverged. Take an earlier checkpoint.",
          i);
    }
    if (logits[i] > logits[best]) best = i;
  }
  return static_cast<std::int32_t>(best);
}

void nucleus(std::span<const float> logits, double temperature, double top_p,
             std::vector<WeightedToken>& candidates) {
  const double highest = logits[static_cast<std::size_t>(likeliest(logits))];
  candidates.clear();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double weight = std::exp((static_cast<double>(logits[i]) - highest) / temperature);
    candidates.push_back({static_cast<std::int32_t>(i), weight});
  }
  if (top_p < 1) keep_likeliest(candidates, top_p * total_weight(candidates));
}

std::int32_t Sampler::choose(std::span<const float> logits, std::int64_t index) {
  if (!rule_.draw) return likeliest(logits);
  nucleus(logits, rule_.temperature, rule_.top_p, candidates_);
  double left = uniform(rule_.seed, index) * total_weight(candidates_);
  for (const WeightedToken& candidate : candidates_) {
    left -= candidate.weight;
    if (left < 0) return candidate.token;
  }
  return candidates_.back().token;  // rounding ate the last one's share
}

}  // namespace snug
