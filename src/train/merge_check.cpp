#include "train/merge_check.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "core/error.h"
#include "train/generator.h"
#include "train/run_setup.h"
#include "train/sampling.h"

namespace snug {
namespace {

constexpr std::int64_t kSamples = 8;
constexpr std::int64_t kSampleTokens = 128;

using Sample = std::vector<std::int32_t>;

std::vector<Sample> first_samples(const Settings& settings) {
  const DataSource data = open_data(settings, open_model(settings.model));
  std::vector<Sample> samples;
  for (std::int64_t row = 0; row < std::min(kSamples, data.train.size()); ++row) {
    const auto ids = data.train.ids(row);
    samples.emplace_back(ids.begin(),
                         ids.begin() + std::min<std::ptrdiff_t>(kSampleTokens, std::ssize(ids)));
  }
  return samples;
}

/// The logits behind each sample, one sample after the other.
std::vector<float> logits_behind(const std::vector<Sample>& samples, const Settings& settings) {
  std::int64_t longest = 1;
  for (const Sample& sample : samples)
    longest = std::max<std::int64_t>(longest, std::ssize(sample));
  Generator generator(open_model(settings.model), {.prompt_tokens = longest}, settings);
  std::vector<float> all;
  for (const Sample& sample : samples) {
    generator.restart();
    const auto logits = generator.feed(sample);
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

Settings settings_of_merged(const Settings& settings, const std::filesystem::path& merged) {
  Settings result = settings;
  result.model = {};
  result.model.name_or_path = merged.string();
  result.quantization = {};
  return result;
}

}  // namespace

LogitsDifference compare_merged(const Settings& settings, const std::filesystem::path& merged) {
  const std::vector<Sample> samples = first_samples(settings);
  const std::vector<float> apart = logits_behind(samples, settings);
  const std::vector<float> together = logits_behind(samples, settings_of_merged(settings, merged));
  check(apart.size() == together.size() && !samples.empty(), "logits of {} and {} values",
        apart.size(), together.size());
  LogitsDifference result{.samples = std::ssize(samples)};
  for (std::size_t i = 0; i < apart.size(); ++i) {
    const double difference = std::abs(static_cast<double>(apart[i]) - together[i]);
    result.mean += difference / static_cast<double>(apart.size());
    result.largest = std::max(result.largest, difference);
    result.typical += static_cast<double>(apart[i]) * apart[i] / static_cast<double>(apart.size());
  }
  result.typical = std::sqrt(result.typical);
  const std::size_t vocabulary = apart.size() / samples.size();
  for (std::size_t s = 0; s < samples.size(); ++s) {
    const auto row = [&](const std::vector<float>& logits) {
      return std::span(logits).subspan(s * vocabulary, vocabulary);
    };
    if (likeliest(row(apart)) == likeliest(row(together))) ++result.same_choices;
  }
  return result;
}

}  // namespace snug
