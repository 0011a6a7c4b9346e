#include "core/bytes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>

namespace snug {
namespace {

struct Unit {
  std::string_view name;
  std::int64_t bytes;
};

constexpr std::int64_t kThousand = 1000;
constexpr std::int64_t kKibi = 1024;

// Largest first, binary before decimal.
constexpr std::array<Unit, 11> kUnits = {{
    {"PiB", kKibi * kKibi * kKibi * kKibi * kKibi},
    {"PB", kThousand * kThousand * kThousand * kThousand * kThousand},
    {"TiB", kKibi * kKibi * kKibi * kKibi},
    {"TB", kThousand * kThousand * kThousand * kThousand},
    {"GiB", kKibi * kKibi * kKibi},
    {"GB", kThousand * kThousand * kThousand},
    {"MiB", kKibi * kKibi},
    {"MB", kThousand * kThousand},
    {"KiB", kKibi},
    {"KB", kThousand},
    {"B", 1},
}};

bool equal_letters(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::tolower(static_cast<unsigned char>(a[i])) !=
        std::tolower(static_cast<unsigned char>(b[i]))) {
      return false;
    }
  }
  return true;
}

std::optional<std::int64_t> unit_from_name(std::string_view name) {
  if (name.empty()) return 1;
  for (const Unit& unit : kUnits) {
    if (equal_letters(unit.name, name)) return unit.bytes;
  }
  return std::nullopt;
}

/// One or more digits; none when the number is too large.
std::optional<std::int64_t> parse_digits(std::string_view digits) {
  if (digits.empty()) return std::nullopt;
  std::int64_t number = 0;
  for (const char digit : digits) {
    if (__builtin_mul_overflow(number, std::int64_t{10}, &number) ||
        __builtin_add_overflow(number, std::int64_t{digit - '0'}, &number)) {
      return std::nullopt;
    }
  }
  return number;
}

}  // namespace

std::optional<Bytes> parse_bytes(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789";
  const std::size_t end_of_whole = std::min(text.find_first_not_of(kDigits), text.size());
  const auto whole = parse_digits(text.substr(0, end_of_whole));
  if (!whole) return std::nullopt;
  text.remove_prefix(end_of_whole);

  double fraction = 0;
  if (text.starts_with('.')) {
    double place = 1;
    std::size_t end = 1;
    for (; end < text.size() && kDigits.find(text[end]) != std::string_view::npos; ++end) {
      place /= 10;
      fraction += place * (text[end] - '0');
    }
    if (end == 1) return std::nullopt;
    text.remove_prefix(end);
  }
  if (text.starts_with(' ')) text.remove_prefix(1);

  const auto unit = unit_from_name(text);
  std::int64_t bytes = 0;
  if (!unit || __builtin_mul_overflow(*whole, *unit, &bytes)) return std::nullopt;
  const auto part = static_cast<std::int64_t>(std::round(fraction * static_cast<double>(*unit)));
  if (__builtin_add_overflow(bytes, part, &bytes)) return std::nullopt;
  return Bytes{bytes};
}

std::string exact_bytes(Bytes size) {
  for (const Unit& unit : kUnits) {
    if (size.count >= unit.bytes && size.count % unit.bytes == 0) {
      return fmt::format("{}{}", size.count / unit.bytes, unit.name);
    }
  }
  return fmt::format("{}B", size.count);
}

}  // namespace snug
