#pragma once
// Which rows make which step, and what a micro-batch looks like in memory.

#include <cstdint>
#include <span>
#include <vector>

#include "core/settings.h"
#include "data/dataset.h"

namespace snug {

/// Lengths of at most `count` buckets, ascending, multiples of 16 (or the cap), such that padding
/// every row to its bucket wastes the fewest tokens. The last one holds the longest row.
std::vector<std::int64_t> choose_buckets(const Dataset& dataset, std::int64_t count);

/// The smallest bucket that holds `length` tokens.
std::int32_t bucket_of(std::span<const std::int64_t> buckets, std::int64_t length);

/// Rows of an epoch in their order, cut into steps and micro-batches. The last step of an epoch may
/// have fewer rows.
class EpochOrder {
 public:
  EpochOrder(std::int64_t rows, std::int64_t rows_per_step, RowOrder order, std::uint64_t seed);

  std::int64_t steps() const;
  /// Shuffles for an epoch (Philox(seed, epoch): the same on every machine).
  void start(std::int64_t epoch);
  /// The rows of a step; valid until start().
  std::span<const std::int64_t> step(std::int64_t step) const;

 private:
  std::vector<std::int64_t> rows_;
  std::int64_t rows_per_step_;
  RowOrder order_;
  std::uint64_t seed_;
};

/// The inputs of a micro-batch program, each of rows x length tokens.
struct MicroBatchInputs {
  std::span<std::int32_t> ids;
  std::span<std::int32_t> labels;
  std::span<std::int32_t> positions;
  std::span<std::int32_t> doc_start;
  /// The document a token is of, by Dataset::document_numbers(); -1 for padding. Empty: not wanted.
  std::span<std::int32_t> rows{};
};

/// Writes `rows` (at most as many as the micro-batch holds) padded to `length` tokens each. Padding
/// tokens are documents of their own without a label; so are whole missing rows.
void fill_micro_batch(const Dataset& dataset, std::span<const std::int64_t> rows,
                      std::int64_t length, const MicroBatchInputs& inputs);

}  // namespace snug
