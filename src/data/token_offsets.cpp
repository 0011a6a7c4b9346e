#include "data/token_offsets.h"

#include <algorithm>
#include <string>

#include "data/tokenizer/byte_alphabet.h"

namespace snug {
namespace {

/// SentencePiece writes a space as U+2581.
std::string with_spaces(std::string_view token) {
  constexpr std::string_view kSpace = "\xE2\x96\x81";
  std::string text;
  while (!token.empty()) {
    if (token.starts_with(kSpace)) {
      text += ' ';
      token.remove_prefix(kSpace.size());
    } else {
      text += token.front();
      token.remove_prefix(1);
    }
  }
  return text;
}

/// The byte of a token `<0xE2>`.
std::optional<std::string> fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  return std::string(1, static_cast<char>(std::stoi(std::string(token.substr(3, 2)), nullptr, 16)));
}

/// How many bytes of `rest` the token is; 0 where it does not stand there.
std::size_t bytes_of(std::string_view token, std::string_view rest) {
  if (token.empty()) return 0;
  const auto spelled = bytes_of_spelling(token);
  if (spelled && rest.starts_with(*spelled)) return spelled->size();
  if (rest.starts_with(token)) return token.size();
  if (const std::string spaces = with_spaces(token); rest.starts_with(spaces)) return spaces.size();
  if (const auto byte = fallback_byte(token); byte && rest.starts_with(*byte)) return 1;
  return 0;
}

std::size_t diverge(std::span<const std::int32_t> a, std::span<const std::int32_t> b) {
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first -
                                  a.begin());
}

}  // namespace

std::optional<std::vector<std::size_t>> token_offsets(const Tokenizer& tokenizer,
                                                      std::span<const std::int32_t> ids,
                                                      std::string_view text) {
  std::vector<std::size_t> offsets;
  offsets.reserve(ids.size() + 1);
  std::size_t at = 0;
  for (const std::int32_t id : ids) {
    offsets.push_back(at);
    const std::size_t count = bytes_of(tokenizer.token_text(id), text.substr(at));
    if (count == 0) return std::nullopt;
    at += count;
  }
  if (at != text.size()) return std::nullopt;
  offsets.push_back(at);
  return offsets;
}

std::pair<std::size_t, std::size_t> tokens_of_bytes(
    const Tokenizer& tokenizer, std::span<const std::int32_t> ids, std::string_view text,
    const std::optional<std::vector<std::size_t>>& at, std::size_t begin, std::size_t end) {
  if (at) {
    const auto token_of = [&](std::size_t byte) {
      return static_cast<std::size_t>(std::upper_bound(at->begin(), at->end(), byte) -
                                      at->begin()) -
             1;
    };
    return {std::min(token_of(begin), ids.size()), std::min(token_of(end - 1) + 1, ids.size())};
  }
  const std::size_t first = diverge(ids, tokenizer.encode(text.substr(0, begin), false));
  const std::size_t last =
      end == text.size() ? ids.size() : diverge(ids, tokenizer.encode(text.substr(0, end), false));
  return {first, std::max(first, last)};
}

}  // namespace snug
