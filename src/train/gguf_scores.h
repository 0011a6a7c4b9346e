#pragma once
// Scores of a sentencepiece vocabulary, found again from the merges of its tokenizer.json.

#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/json_view.h"

namespace snug {

/// The two sides of each merge of `model`, in order.
std::vector<std::pair<std::string_view, std::string_view>> merges_of(const JsonView& model);

/// One score a token of `tokens`, by id: llama.cpp joins the neighbours whose joint token has the
/// highest score, so the earlier a token's merges come, the higher its score. UserError unless the
/// merges say no more than such scores can: each token's merges stand together, and every pair of
/// tokens that makes a token of `joined` is among them. That holds for merges made from a
/// sentencepiece model (transformers' convert_slow_tokenizer.py).
std::vector<float> scores_of(const JsonView& model, const std::vector<std::string>& tokens,
                             const std::vector<bool>& joined);

}  // namespace snug
