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

/// Columns that UTF-8 text takes on a terminal: two for wide characters (East Asian, emoji), none
/// for marks that combine and for control characters; one for a byte that is no UTF-8.
int display_columns(std::string_view text);

/// The longest beginning of the text, in whole characters, that takes at most so many columns.
std::string cut_to_columns(std::string_view text, int columns);

/// Decimal digits in groups of three: 4,294,967,296.
std::string group_digits(std::int64_t number);

/// Decimal units with one decimal unless it is 0, as disks are sold: `96.4 GB`, `212 GB`, `17 B`.
std::string decimal_bytes(std::int64_t bytes);

/// Binary units with two decimals, as memory is counted: `15.31 GiB`, `17 B`.
std::string binary_bytes(std::int64_t bytes);

}  // namespace snug
