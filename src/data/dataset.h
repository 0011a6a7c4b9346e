#pragma once
// A data set as token rows in memory.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/settings.h"
#include "data/chat_template.h"
#include "data/rows.h"
#include "data/tokenizer/tokenizer.h"

namespace snug {

/// What became of the rows while they were tokenised.
struct DatasetCounts {
  std::int64_t rows = 0;              ///< kept
  std::int64_t tokens = 0;            ///< of kept rows
  std::int64_t trained_tokens = 0;    ///< labels after the shift
  std::int64_t cut = 0;               ///< rows longer than max_length of which a part is kept
  std::int64_t cut_tokens = 0;        ///< trained tokens that cutting took away
  std::int64_t dropped = 0;           ///< rows left without a label, or too long with `drop`
  std::int64_t longest = 0;           ///< tokens of the longest kept row, or sequence where packed
  std::int64_t bad = 0;               ///< rows skipped because they could not be read or rendered
  std::vector<std::string> bad_rows;  ///< why, of the first five
  std::int64_t moved_seams = 0;  ///< rows whose prompt's tokens are no prefix of the whole row's
  std::int64_t twice_begun = 0;  ///< rows that begin with BOS twice
};

/// How rows become tokens.
struct TokenRules {
  std::int64_t max_length = 0;
  bool append_eos = true;
  std::int32_t eos = -1;  ///< -1: the tokenizer has none
  std::int64_t vocab_size = 0;
  std::int32_t bos = -1;
  TrainOn train_on = TrainOn::automatic;
  ExcessLength excess = ExcessLength::automatic;
  TruncationMode truncation = TruncationMode::keep_start;
};

/// What turns rows into tokens.
struct RowEncoder {
  const Tokenizer* tokenizer = nullptr;  ///< null: all rows are tokens already
  ChatTemplate* chat = nullptr;          ///< null: there is no template
  TokenRules rules;
};

/// Tokens of a row, and what is worth a word about them.
struct EncodedRow {
  TokenRow tokens;
  bool document = false;    ///< to be split where it is long
  bool moved_seam = false;  ///< a prompt's tokens are no prefix of the whole row's
  bool twice_begun = false;
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

  /// Adds a row as the rules have it where it is too long, and counts what became of it. `place`
  /// stands in the UserError of ExcessLength::raise.
  void add(const TokenRow& row, const TokenRules& rules, const std::string& place = "a row");
  /// The same, with what is worth a word.
  void add(const EncodedRow& row, const TokenRules& rules, const std::string& place);
  void count_bad(const std::string& reason);

  /// Adds the documents of `rows` of another data set as one row.
  void append(const Dataset& from, std::span<const std::int64_t> rows);
  /// Takes over what became of the rows before they were packed; `longest` stays this one's.
  void keep_counts(const DatasetCounts& before);

  /// Moves `rows` random rows (by Philox(seed)) into a data set of their own; both keep the order.
  Dataset split_off(std::int64_t rows, std::uint64_t seed);

 private:
  std::span<const std::int32_t> cut(const std::vector<std::int32_t>& from, std::int64_t row) const;
  std::span<const std::int32_t> of_row(const std::vector<std::int32_t>& documents,
                                       std::int64_t row) const;
  void close_row();
  void add_part(const TokenRow& row, std::int64_t begin, std::int64_t end);
  std::vector<std::int32_t> ids_;
  std::vector<std::int32_t> labels_;
  std::vector<std::int64_t> begins_{0};
  std::vector<std::int32_t> documents_;           ///< of all rows, as documents() gives them
  std::vector<std::int32_t> document_numbers_;    ///< beside documents_
  std::vector<std::int64_t> document_begins_{0};  ///< of each row in documents_
  DatasetCounts counts_;
};

/// Tokens and labels (not shifted) of one row. Text and completions: BOS as the tokenizer's
/// post-processor says, EOS at the end unless it is there; prompt and completion are tokenised
/// together, the completion beginning where the prompt alone and the whole diverge. Messages: the
/// template's text, nothing added; what is trained are the template's generation spans, or else
/// what follows the rendered prompt of a turn. UserError for ids outside the vocabulary, for
/// layouts that nothing trains on, and for a train_on that the row has no part for.
EncodedRow encode_row(const DataRow& row, const RowEncoder& encoder);

/// Reads and tokenises whole files. UserError when there is no row, or none is left with a label:
/// names max_length and the length that is needed.
Dataset load_dataset(const std::vector<std::string>& sources, const DataSettings& settings,
                     const RowEncoder& encoder);

/// Lines for people: rows that were skipped, cut by more than 5 % of the trained tokens, begun
/// twice or with a moved seam. Empty when there is nothing to say.
std::vector<std::string> remarks_of(const DatasetCounts& counts);

}  // namespace snug
