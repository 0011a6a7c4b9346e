#pragma once
// Several rows in one sequence, as documents that do not see each other.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace snug {

/// Indices of `lengths` by sequence of at most `capacity`: best-fit decreasing, that is the longest
/// first, each into the fullest sequence that still holds it (the earliest of equals), else into a
/// new one. No length is above the capacity. O(n log n); the same on every machine.
std::vector<std::vector<std::int64_t>> best_fit_decreasing(std::span<const std::int64_t> lengths,
                                                           std::int64_t capacity);

/// The rows of a data set in sequences of at most `capacity` tokens (and at least its longest row),
/// each row a document; no row is cut.
Dataset pack(const Dataset& rows, std::int64_t capacity);

/// `packed: 1,234 rows in 87 sequences of at most 2,048 tokens, 97.3 % of their room filled`
std::string describe_packing(const Dataset& packed);

}  // namespace snug
