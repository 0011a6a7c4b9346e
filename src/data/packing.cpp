#include "data/packing.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "core/text.h"

namespace snug {

std::vector<std::vector<std::int64_t>> best_fit_decreasing(std::span<const std::int64_t> lengths,
                                                           std::int64_t capacity) {
  std::vector<std::size_t> order(lengths.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return lengths[a] != lengths[b] ? lengths[a] > lengths[b] : a < b;
  });
  std::vector<std::vector<std::int64_t>> sequences;
  std::set<std::pair<std::int64_t, std::size_t>> room;  // tokens left, sequence
  for (const std::size_t item : order) {
    const std::int64_t length = lengths[item];
    check(length <= capacity, "a row of {} tokens in sequences of {}", length, capacity);
    const auto best = room.lower_bound({length, 0});
    std::size_t sequence = sequences.size();
    std::int64_t left = capacity;
    if (best == room.end()) {
      sequences.emplace_back();
    } else {
      std::tie(left, sequence) = *best;
      room.erase(best);
    }
    sequences[sequence].push_back(static_cast<std::int64_t>(item));
    if (left > length) room.emplace(left - length, sequence);
  }
  return sequences;
}

Dataset pack(const Dataset& rows, std::int64_t capacity) {
  std::vector<std::int64_t> lengths;
  for (std::int64_t row = 0; row < rows.size(); ++row) lengths.push_back(rows.length(row));
  const std::int64_t most = std::max(capacity, rows.counts().longest);
  Dataset packed;
  for (const auto& sequence : best_fit_decreasing(lengths, most)) packed.append(rows, sequence);
  packed.keep_counts(rows.counts());
  return packed;
}

std::string describe_packing(const Dataset& packed) {
  const DatasetCounts& counts = packed.counts();
  const double room = static_cast<double>(packed.size() * counts.longest);
  return fmt::format(
      "packed: {} rows in {} sequences of at most {} tokens, {:.1f} % of their room filled",
      group_digits(counts.rows), group_digits(packed.size()), group_digits(counts.longest),
      100.0 * static_cast<double>(counts.tokens) / room);
}

}  // namespace snug
