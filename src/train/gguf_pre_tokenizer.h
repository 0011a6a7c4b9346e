#pragma once
// What llama.cpp calls the way in which a tokenizer.json cuts text before byte-pair encoding.

#include <string>
#include <string_view>

#include "data/tokenizer/json_view.h"

namespace snug {

/// tokenizer.ggml.pre of a byte-level tokenizer: the one whose expressions and whose handling of
/// whole words (`ignore_merges`) are the file's. UserError naming the file's otherwise. `tokenizer`
/// is the whole file.
std::string_view pre_tokenizer_name(const JsonView& tokenizer);

/// How a sentencepiece tokenizer treats white space.
struct SpaceRule {
  bool prefix = false;        ///< a space goes before the text
  bool first_only = false;    ///< but not behind special tokens
  bool unless_there = false;  ///< nor before a space
  bool cuts_words = false;    ///< no token holds a space behind its first character
};

/// The rule of a tokenizer without byte level. UserError for normalizers and pre-tokenizers that
/// sentencepiece does not have.
SpaceRule space_rule(const JsonView& tokenizer);

}  // namespace snug
