#pragma once
// Where in a text its tokens stand.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "data/tokenizer/tokenizer.h"

namespace snug {

/// The first byte of each token in `text`, whose encoding (without special tokens added) is `ids`,
/// and the end. Nothing where the tokens' own texts, one behind the other, are not the text: where
/// a normalizer changed it.
std::optional<std::vector<std::size_t>> token_offsets(const Tokenizer& tokenizer,
                                                      std::span<const std::int32_t> ids,
                                                      std::string_view text);

/// The tokens [first, second) that hold bytes [begin, end) of `text`, those that are only partly
/// inside included. Without offsets: from where the tokens of text[0, begin) and `ids` diverge.
std::pair<std::size_t, std::size_t> tokens_of_bytes(
    const Tokenizer& tokenizer, std::span<const std::int32_t> ids, std::string_view text,
    const std::optional<std::vector<std::size_t>>& at, std::size_t begin, std::size_t end);

}  // namespace snug
