// Rows of token ids, with the masks that their makers put beside them.
#include <algorithm>

#include "core/error.h"
#include "data/row_columns.h"

namespace snug {
namespace {

constexpr std::int32_t kIgnored = -100;

class TokenReader {
 public:
  explicit TokenReader(const RowColumns& columns) : columns_(columns) {
    row_.ids = columns.integers("input_ids");
  }

  TokenRow read(TrainOn train_on) {
    read_labels();
    read_attention_mask();
    if (train_on != TrainOn::all) {
      apply_mask("completion_mask");
      apply_mask("assistant_masks");
    }
    if (train_on == TrainOn::last) keep_last_stretch();
    read_documents();
    refuse_unless_zero("token_type_ids");
    strip_padding();
    return std::move(row_);
  }

 private:
  /// A column that has an entry a token.
  std::vector<std::int32_t> beside_ids(std::string_view name) const {
    std::vector<std::int32_t> values = columns_.integers(name);
    if (values.size() != row_.ids.size()) {
      user_error("{}: '{}' has {} entries, 'input_ids' {}; they must be as many.", columns_.place(),
                 name, values.size(), row_.ids.size());
    }
    return values;
  }

  std::vector<std::int32_t> mask(std::string_view name) const {
    std::vector<std::int32_t> values = beside_ids(name);
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (values[i] != 0 && values[i] != 1) {
        user_error(
            "{}: '{}' holds {} at position {}, expected 0 or 1 (documents of one row: "
            "'seq_lengths' or 'position_ids').",
            columns_.place(), name, values[i], i);
      }
    }
    return values;
  }

  void read_labels() {
    row_.labels = columns_.has("labels") ? beside_ids("labels") : row_.ids;
    for (std::size_t i = 0; i < row_.ids.size(); ++i) {
      if (row_.labels[i] != kIgnored && row_.labels[i] != row_.ids[i]) {
        user_error("{}: 'labels'[{}] is {}, expected input_ids[{}] = {} or -100.", columns_.place(),
                   i, row_.labels[i], i, row_.ids[i]);
      }
    }
  }

  void apply_mask(std::string_view name) {
    if (!columns_.has(name)) return;
    const std::vector<std::int32_t> trained = mask(name);
    for (std::size_t i = 0; i < trained.size(); ++i) {
      if (trained[i] == 0) row_.labels[i] = kIgnored;
    }
  }

  void keep_last_stretch() {
    const auto trained = [](std::int32_t label) { return label != kIgnored; };
    const auto end = std::find_if(row_.labels.rbegin(), row_.labels.rend(), trained);
    std::fill(std::find_if_not(end, row_.labels.rend(), trained), row_.labels.rend(), kIgnored);
  }

  std::vector<std::int32_t> documents_of_lengths() const {
    std::vector<std::int32_t> begins;
    std::int64_t begin = 0;
    for (const std::int32_t length : columns_.integers("seq_lengths")) {
      if (length < 1) user_error("{}: 'seq_lengths' holds {}.", columns_.place(), length);
      begins.push_back(static_cast<std::int32_t>(begin));
      begin += length;
    }
    if (begin != static_cast<std::int64_t>(row_.ids.size())) {
      user_error("{}: 'seq_lengths' sums to {}, 'input_ids' has {} entries.", columns_.place(),
                 begin, row_.ids.size());
    }
    return begins;
  }

  /// Of the tokens that are kept. A row that begins with padding may count on from it.
  std::vector<std::int32_t> documents_of_positions() const {
    const std::vector<std::int32_t> positions = beside_ids("position_ids");
    std::vector<std::int32_t> begins;
    for (std::int64_t i = first_; i < last_; ++i) {
      const std::int32_t position = positions[static_cast<std::size_t>(i)];
      const bool from_padding = i == first_ && first_ > 0;
      if (position == 0 || from_padding) {
        begins.push_back(static_cast<std::int32_t>(i - first_));
      } else if (i == 0 || position != positions[static_cast<std::size_t>(i) - 1] + 1) {
        user_error(
            "{}: 'position_ids'[{}] is {}. Positions count up by one and begin again at 0 "
            "with each document; others are not in this version.",
            columns_.place(), i, position);
      }
    }
    return begins;
  }

  void read_documents() {
    const bool lengths = columns_.has("seq_lengths");
    if (lengths) row_.documents = moved(documents_of_lengths());
    if (!columns_.has("position_ids")) return;
    std::vector<std::int32_t> begins = documents_of_positions();
    if (lengths && begins != row_.documents) {
      user_error("{}: 'position_ids' and 'seq_lengths' name different documents.",
                 columns_.place());
    }
    row_.documents = std::move(begins);
  }

  void refuse_unless_zero(std::string_view name) const {
    if (!columns_.has(name)) return;
    const std::vector<std::int32_t> values = beside_ids(name);
    if (std::all_of(values.begin(), values.end(), [](std::int32_t v) { return v == 0; })) return;
    user_error("{}: '{}' is not 0 everywhere; the models that snug trains have no segments.",
               columns_.place(), name);
  }

  /// Which tokens attention_mask keeps: those between padding at the ends.
  void read_attention_mask() {
    first_ = 0;
    last_ = static_cast<std::int64_t>(row_.ids.size());
    if (!columns_.has("attention_mask")) return;
    const std::vector<std::int32_t> seen = mask("attention_mask");
    first_ = std::find(seen.begin(), seen.end(), 1) - seen.begin();
    last_ = seen.rend() - std::find(seen.rbegin(), seen.rend(), 1);
    if (first_ >= last_) {
      user_error("{}: 'attention_mask' leaves every token out.", columns_.place());
    }
    const auto hole = std::find(seen.begin() + first_, seen.begin() + last_, 0) - seen.begin();
    if (hole < last_) {
      user_error(
          "{}: 'attention_mask' leaves out token {} between others; only padding at the ends "
          "is taken.",
          columns_.place(), hole);
    }
    for (std::size_t i = 0; i < seen.size() && columns_.has("labels"); ++i) {
      if (seen[i] == 0 && row_.labels[i] != kIgnored) {
        user_error("{}: 'labels' trains token {}, which 'attention_mask' leaves out.",
                   columns_.place(), i);
      }
    }
  }

  void strip_padding() {
    for (std::vector<std::int32_t>* values : {&row_.ids, &row_.labels}) {
      values->erase(values->begin() + last_, values->end());
      values->erase(values->begin(), values->begin() + first_);
    }
  }

  /// Documents of the whole row as those of the tokens that are kept.
  std::vector<std::int32_t> moved(const std::vector<std::int32_t>& begins) const {
    std::vector<std::int32_t> kept;
    for (const std::int32_t begin : begins) {
      if (begin < last_) kept.push_back(std::max(begin - static_cast<std::int32_t>(first_), 0));
    }
    kept.erase(std::unique(kept.begin(), kept.end()), kept.end());
    return kept;
  }

  const RowColumns& columns_;
  TokenRow row_;
  std::int64_t first_ = 0;  // of the tokens that are kept
  std::int64_t last_ = 0;   // behind them
};

}  // namespace

TokenRow token_row(const RowColumns& columns, TrainOn train_on) {
  return TokenReader(columns).read(train_on);
}

}  // namespace snug
