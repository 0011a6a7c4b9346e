#include "data/tokenizer/byte_alphabet.h"

#include "data/tokenizer/utf8.h"

namespace snug {
namespace {

constexpr std::array<char32_t, 256> kAlphabet = byte_alphabet();

// For each character below U+0144 its byte, or -1.
constexpr std::array<int16_t, 0x144> kBytes = [] {
  std::array<int16_t, 0x144> bytes{};
  for (auto& byte : bytes) byte = -1;
  for (size_t byte = 0; byte < 256; ++byte) {
    bytes[kAlphabet[byte]] = static_cast<int16_t>(byte);
  }
  return bytes;
}();

}  // namespace

void spell_bytes(std::string_view bytes, std::string& spelling) {
  spelling.clear();
  for (const char byte : bytes) append_utf8(spelling, kAlphabet[static_cast<unsigned char>(byte)]);
}

std::optional<std::string> bytes_of_spelling(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = utf8_char(text, at);
    if (c.code >= kBytes.size() || kBytes[c.code] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kBytes[c.code]));
    at += c.size;
  }
  return bytes;
}

}  // namespace snug
