#pragma once
// The byte-level alphabet of GPT-2: one printable character for each of the 256 bytes.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace snug {

/// The character of each byte: 33-126, 161-172 and 174-255 stand for themselves; the others, in
/// order, are U+0100 to U+0143. Source: encoder.py of openai/gpt-2.
constexpr std::array<char32_t, 256> byte_alphabet() {
  std::array<char32_t, 256> alphabet{};
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    alphabet[byte] = itself ? byte : next++;
  }
  return alphabet;
}

/// Makes `spelling` the bytes spelled in the alphabet, as UTF-8.
void spell_bytes(std::string_view bytes, std::string& spelling);

/// The bytes that `text` spells; nothing when a character is not of the alphabet.
std::optional<std::string> bytes_of_spelling(std::string_view text);

}  // namespace snug
