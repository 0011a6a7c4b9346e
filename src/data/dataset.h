#pragma once
// A data set as token rows in memory.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/settings.h"
#include "data/rows.h"
#include "data/tokenizer/tokenizer.h"

namespace snug {

/// What became of the rows while they were tokenised.
struct DatasetCounts {
  std::int64_t rows = 0;            ///< kept
  std::int64_t tokens = 0;          ///< of kept rows
  std::int64_t trained_tokens = 0;  ///< labels after the shift
  std::int64_t cut = 0;             ///< rows longer than max_length, cut at the end
  std::int64_t dropped = 0;         ///< rows left without a label
  std::int64_t longest = 0;         ///< tokens of the longest kept row, or sequence where packed
};

/// How rows become tokens.
struct TokenRules {
  std::int64_t max_length = 0;
  bool append_eos = true;
  std::int32_t eos = -1;  ///< -1: the model has none
  std::int64_t vocab_size = 0;
};

/// Rows are sequences of documents: one document a row, unless the rows were packed.
class Dataset {
 public:
  std::int64_t size() const { return static_cast<std::int64_t>(begins_.size()) - 1; }
  std::span<const std::int32_t> ids(std::int64_t row) const { return cut(ids_, row); }
  /// labels(row)[t] is the token to predict after t, -100 where none is.
  std::span<const std::int32_t> labels(std::int64_t row) const { return cut(labels_, row); }
  /// The first tokens of the row's documents, counted from the row's first token; ascending from 0.
  std::span<const std::int32_t> documents(std::int64_t row) const {
    return of_row(documents_, row);
  }
  /// Which row each document was when it was read: packing does not change it.
  std::span<const std::int32_t> document_numbers(std::int64_t row) const {
    return of_row(document_numbers_, row);
  }
  std::int64_t length(std::int64_t row) const;
  std::int64_t label_count(std::int64_t row) const;
  const DatasetCounts& counts() const { return counts_; }
  /// What the rows take in memory.
  std::int64_t bytes() const;

  /// Adds a row, cut to the rules' length; counts it as cut or dropped where it is.
  void add(const TokenRow& row, const TokenRules& rules);

  /// Adds the documents of `rows` of another data set as one row.
  void append(const Dataset& from, std::span<const std::int64_t> rows);
  /// Takes over what became of the rows before they were packed; `longest` stays this one's.
  void keep_counts(const DatasetCounts& before);

  /// Moves the last `rows` rows into a data set of their own.
  Dataset split_off(std::int64_t rows);

 private:
  std::span<const std::int32_t> cut(const std::vector<std::int32_t>& from, std::int64_t row) const;
  std::span<const std::int32_t> of_row(const std::vector<std::int32_t>& documents,
                                       std::int64_t row) const;
  void close_row();
  std::vector<std::int32_t> ids_;
  std::vector<std::int32_t> labels_;
  std::vector<std::int64_t> begins_{0};
  std::vector<std::int32_t> documents_;           ///< of all rows, as documents() gives them
  std::vector<std::int32_t> document_numbers_;    ///< beside documents_
  std::vector<std::int64_t> document_begins_{0};  ///< of each row in documents_
  DatasetCounts counts_;
};

/// Tokens and labels (not shifted) of one row: BOS as the tokenizer's post-processor says, EOS
/// after text and completions unless it is there, prompt and completion tokenised together, the
/// completion beginning where the prompt alone and the whole diverge (as TRL). UserError for ids
/// outside the vocabulary.
TokenRow tokenize_row(const DataRow& row, const Tokenizer* tokenizer, const TokenRules& rules);

/// Reads and tokenises whole files. `tokenizer` may be nullptr when all rows are tokens already.
/// UserError when there is no row, or none is left with a label: names max_length and the length
/// that is needed.
Dataset load_dataset(const std::vector<std::string>& patterns, const Tokenizer* tokenizer,
                     const TokenRules& rules);

}  // namespace snug
