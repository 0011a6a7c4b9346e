#pragma once
// Sizes in bytes as settings spell them: `8GB` is decimal, `8GiB` binary.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace snug {

/// A number of bytes, kept apart from other numbers.
struct Bytes {
  std::int64_t count = 0;
  bool operator==(const Bytes&) const = default;
};

/// Reads `123`, `64B`, `8GB`, `1.5 GiB`: KB to PB are powers of 1000, KiB to PiB of 1024; letters
/// of either case. Rounded to whole bytes. None for other text, and beyond 2^63-1.
std::optional<Bytes> parse_bytes(std::string_view text);

/// The shortest text of the above that reads back as the same number: `8GiB`, `8GB`, `1500B`.
std::string exact_bytes(Bytes size);

}  // namespace snug
