#pragma once
// Small text helpers for messages: spelling suggestions and readable numbers.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace snug {

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b` (optimal
/// string alignment). Cost |a|·|b|.
std::int64_t edit_distance(std::string_view a, std::string_view b);

/// The candidate nearest to `name` (the first among equals), for "Did you mean …?". None when even
/// the nearest differs in more than a third of its letters. Case does not count.
std::optional<std::string_view> nearest(std::string_view name,
                                        std::span<const std::string_view> candidates);

/// Decimal digits in groups of three: 4,294,967,296.
std::string group_digits(std::int64_t number);

/// Decimal units with one decimal unless it is 0, as disks are sold: `96.4 GB`, `212 GB`, `17 B`.
std::string decimal_bytes(std::int64_t bytes);

/// Binary units with two decimals, as memory is counted: `15.31 GiB`, `17 B`.
std::string binary_bytes(std::int64_t bytes);

}  // namespace snug
