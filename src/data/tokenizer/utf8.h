#pragma once
// UTF-8 as Unicode's table 3-7 has it: validation, replacement, and walking over characters.

#include <cstddef>
#include <string>
#include <string_view>

namespace snug {

/// One character, or one maximal ill-formed part, of a byte sequence.
struct Utf8Part {
  size_t size;     // bytes, at least 1
  bool valid;      // a whole character
  bool cut_short;  // ill-formed only because the text ends: more bytes could complete it
};

/// The part that starts at byte `at`, which must lie inside `bytes`.
Utf8Part utf8_part(std::string_view bytes, size_t at);

bool is_valid_utf8(std::string_view bytes);

/// Every maximal ill-formed part becomes one U+FFFD, as Python's errors="replace" and Rust's
/// from_utf8_lossy have it.
std::string replace_invalid_utf8(std::string_view bytes);

/// Bytes before a last character that is cut short; all of them when there is none.
size_t complete_utf8_prefix(std::string_view bytes);

struct Utf8Char {
  char32_t code;
  size_t size;
};

/// The character that starts at byte `at` of valid UTF-8.
inline Utf8Char utf8_char(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const auto tail = [&](size_t i) { return static_cast<char32_t>(byte(i) & 0x3F); };
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | tail(1), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | tail(1) << 6 | tail(2), 3};
  return {(lead & 0x07) << 18 | tail(1) << 12 | tail(2) << 6 | tail(3), 4};
}

/// The character that ends just before byte `end` of valid UTF-8; `end` must not be 0.
Utf8Char utf8_char_before(std::string_view text, size_t end);

void append_utf8(std::string& text, char32_t code);

/// Unicode's White_Space property.
bool is_white_space(char32_t code);

}  // namespace snug
