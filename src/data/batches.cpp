#include "data/batches.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/error.h"
#include "core/philox.h"

namespace snug {
namespace {

/// Bucket lengths are multiples of this; of more when rows are so long that the search would crawl.
constexpr std::int64_t kLengthQuantum = 16;
constexpr std::int64_t kMostLengths = 1024;

/// Splits ascending distinct lengths (each with its number of rows) into `count` groups such that
/// the sum over rows of the group's largest length is smallest.
std::vector<std::int64_t> best_groups(const std::vector<std::int64_t>& lengths,
                                      const std::vector<std::int64_t>& rows, std::int64_t count) {
  const std::size_t n = lengths.size();
  std::vector<std::int64_t> before(n + 1, 0);
  std::partial_sum(rows.begin(), rows.end(), before.begin() + 1);
  const auto groups = static_cast<std::size_t>(count);
  constexpr auto kNever = std::numeric_limits<std::int64_t>::max() / 2;
  // cost[g][i]: the first i lengths in g groups.
  std::vector<std::vector<std::int64_t>> cost(groups + 1, std::vector<std::int64_t>(n + 1, kNever));
  std::vector<std::vector<std::size_t>> cut(groups + 1, std::vector<std::size_t>(n + 1, 0));
  cost[0][0] = 0;
  for (std::size_t g = 1; g <= groups; ++g) {
    for (std::size_t i = 1; i <= n; ++i) {
      for (std::size_t from = 0; from < i; ++from) {
        const std::int64_t padded = cost[g - 1][from] + (before[i] - before[from]) * lengths[i - 1];
        if (padded < cost[g][i]) {
          cost[g][i] = padded;
          cut[g][i] = from;
        }
      }
    }
  }
  std::vector<std::int64_t> result;
  for (std::size_t g = groups, i = n; g > 0; i = cut[g--][i]) result.push_back(lengths[i - 1]);
  std::reverse(result.begin(), result.end());
  return result;
}

}  // namespace

std::vector<std::int64_t> choose_buckets(const Dataset& dataset, std::int64_t count) {
  const std::int64_t longest = dataset.counts().longest;
  const std::int64_t quantum = kLengthQuantum * (1 + longest / (kLengthQuantum * kMostLengths));
  std::vector<std::int64_t> lengths;
  for (std::int64_t row = 0; row < dataset.size(); ++row) {
    const std::int64_t rounded = (dataset.length(row) + quantum - 1) / quantum * quantum;
    lengths.push_back(std::min(rounded, longest));
  }
  std::sort(lengths.begin(), lengths.end());
  std::vector<std::int64_t> distinct;
  std::vector<std::int64_t> rows;
  for (const std::int64_t length : lengths) {
    if (distinct.empty() || distinct.back() != length) {
      distinct.push_back(length);
      rows.push_back(0);
    }
    ++rows.back();
  }
  if (static_cast<std::int64_t>(distinct.size()) <= count) return distinct;
  return best_groups(distinct, rows, count);
}

std::int32_t bucket_of(std::span<const std::int64_t> buckets, std::int64_t length) {
  const auto it = std::lower_bound(buckets.begin(), buckets.end(), length);
  check(it != buckets.end(), "a row of {} tokens fits no bucket", length);
  return static_cast<std::int32_t>(it - buckets.begin());
}

EpochOrder::EpochOrder(std::int64_t rows, std::int64_t rows_per_step, RowOrder order,
                       std::uint64_t seed)
    : rows_(static_cast<std::size_t>(rows)),
      rows_per_step_(rows_per_step),
      order_(order),
      seed_(seed) {
  start(0);
}

std::int64_t EpochOrder::steps() const {
  return (static_cast<std::int64_t>(rows_.size()) + rows_per_step_ - 1) / rows_per_step_;
}

void EpochOrder::start(std::int64_t epoch) {
  std::iota(rows_.begin(), rows_.end(), std::int64_t{0});
  if (order_ != RowOrder::random) return;
  const RandomStream stream{.seed = seed_,
                            .stream = stream_hash("data/order"),
                            .step = static_cast<std::uint32_t>(epoch)};
  for (std::size_t i = rows_.size(); i > 1; --i) {
    const PhiloxBlock block = stream.block(i);
    const std::uint64_t random = (std::uint64_t{block[1]} << 32) | block[0];
    std::swap(rows_[i - 1], rows_[random % i]);
  }
}

std::span<const std::int64_t> EpochOrder::step(std::int64_t step) const {
  const auto begin = static_cast<std::size_t>(step * rows_per_step_);
  check(begin < rows_.size(), "step {} of an epoch of {}", step, steps());
  const std::size_t count =
      std::min(static_cast<std::size_t>(rows_per_step_), rows_.size() - begin);
  return std::span(rows_).subspan(begin, count);
}

void fill_micro_batch(const Dataset& dataset, std::span<const std::int64_t> rows,
                      std::int64_t length, const MicroBatchInputs& inputs) {
  const std::size_t tokens = inputs.ids.size();
  for (std::size_t t = 0; t < tokens; ++t) {
    inputs.ids[t] = 0;
    inputs.labels[t] = -100;
    inputs.positions[t] = 0;
    inputs.doc_start[t] = static_cast<std::int32_t>(t);
  }
  std::fill(inputs.rows.begin(), inputs.rows.end(), -1);
  check(rows.size() * static_cast<std::size_t>(length) <= tokens,
        "{} rows of {} tokens in a micro-batch of {}", rows.size(), length, tokens);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const auto ids = dataset.ids(rows[r]);
    const auto labels = dataset.labels(rows[r]);
    const std::size_t begin = r * static_cast<std::size_t>(length);
    std::copy(ids.begin(), ids.end(), inputs.ids.begin() + static_cast<std::ptrdiff_t>(begin));
    std::copy(labels.begin(), labels.end(),
              inputs.labels.begin() + static_cast<std::ptrdiff_t>(begin));
    const auto documents = dataset.documents(rows[r]);
    const auto numbers = dataset.document_numbers(rows[r]);
    for (std::size_t t = 0, d = 0; t < ids.size(); ++t) {
      if (d + 1 < documents.size() && static_cast<std::int64_t>(t) == documents[d + 1]) ++d;
      const auto first = static_cast<std::size_t>(documents[d]);
      inputs.positions[begin + t] = static_cast<std::int32_t>(t - first);
      inputs.doc_start[begin + t] = static_cast<std::int32_t>(begin + first);
      if (!inputs.rows.empty()) inputs.rows[begin + t] = numbers[d];
    }
  }
}

}  // namespace snug
