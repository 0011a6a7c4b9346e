#include "data/dataset.h"

#include <algorithm>

#include "core/error.h"

namespace snug {
namespace {

constexpr std::int32_t kIgnored = -100;

void append_eos(std::vector<std::int32_t>& ids, const TokenRules& rules) {
  if (!rules.append_eos || rules.eos < 0) return;
  if (ids.empty() || ids.back() != rules.eos) ids.push_back(rules.eos);
}

TokenRow tokenize(const TextRow& row, const Tokenizer& tokenizer, const TokenRules& rules) {
  TokenRow tokens{tokenizer.encode(row.text, true), {}};
  append_eos(tokens.ids, rules);
  tokens.labels = tokens.ids;
  return tokens;
}

TokenRow tokenize(const CompletionRow& row, const Tokenizer& tokenizer, const TokenRules& rules) {
  const std::vector<std::int32_t> prompt = tokenizer.encode(row.prompt, true);
  TokenRow tokens{tokenizer.encode(row.prompt + row.completion, true), {}};
  append_eos(tokens.ids, rules);
  const auto common =
      std::mismatch(prompt.begin(), prompt.end(), tokens.ids.begin(), tokens.ids.end()).second -
      tokens.ids.begin();
  tokens.labels = tokens.ids;
  std::fill(tokens.labels.begin(), tokens.labels.begin() + common, kIgnored);
  return tokens;
}

TokenRow tokenize(const TokenRow& row, const Tokenizer&, const TokenRules&) { return row; }

}  // namespace

std::span<const std::int32_t> Dataset::of_row(const std::vector<std::int32_t>& documents,
                                              std::int64_t row) const {
  const auto begin = static_cast<std::size_t>(document_begins_[static_cast<std::size_t>(row)]);
  const auto end = static_cast<std::size_t>(document_begins_[static_cast<std::size_t>(row) + 1]);
  return std::span(documents).subspan(begin, end - begin);
}

std::int64_t Dataset::length(std::int64_t row) const {
  return begins_[static_cast<std::size_t>(row) + 1] - begins_[static_cast<std::size_t>(row)];
}

std::int64_t Dataset::label_count(std::int64_t row) const {
  const auto all = labels(row);
  return static_cast<std::int64_t>(all.size()) - std::count(all.begin(), all.end(), kIgnored);
}

std::span<const std::int32_t> Dataset::cut(const std::vector<std::int32_t>& from,
                                           std::int64_t row) const {
  return std::span(from).subspan(static_cast<std::size_t>(begins_[static_cast<std::size_t>(row)]),
                                 static_cast<std::size_t>(length(row)));
}

std::int64_t Dataset::bytes() const {
  const std::size_t tokens = ids_.size() + labels_.size();
  const std::size_t documents = documents_.size() + document_numbers_.size();
  const std::size_t begins = begins_.size() + document_begins_.size();
  return static_cast<std::int64_t>((tokens + documents) * sizeof(std::int32_t) +
                                   begins * sizeof(std::int64_t));
}

void Dataset::add(const TokenRow& row, const TokenRules& rules) {
  const auto length =
      std::min<std::int64_t>(static_cast<std::int64_t>(row.ids.size()), rules.max_length);
  std::vector<std::int32_t> shifted(static_cast<std::size_t>(length), kIgnored);
  for (std::int64_t t = 0; t + 1 < length; ++t) {
    shifted[static_cast<std::size_t>(t)] = row.labels[static_cast<std::size_t>(t) + 1];
  }
  const auto trained = length - std::count(shifted.begin(), shifted.end(), kIgnored);
  if (trained == 0) {
    ++counts_.dropped;
    return;
  }
  if (length < static_cast<std::int64_t>(row.ids.size())) ++counts_.cut;
  ids_.insert(ids_.end(), row.ids.begin(), row.ids.begin() + length);
  labels_.insert(labels_.end(), shifted.begin(), shifted.end());
  documents_.push_back(0);
  document_numbers_.push_back(static_cast<std::int32_t>(size()));
  close_row();
  ++counts_.rows;
  counts_.tokens += length;
  counts_.trained_tokens += trained;
}

void Dataset::append(const Dataset& from, std::span<const std::int64_t> rows) {
  const std::int64_t first = begins_.back();
  for (const std::int64_t row : rows) {
    const std::int64_t begin = static_cast<std::int64_t>(ids_.size()) - first;
    for (const std::int32_t document : from.documents(row)) {
      documents_.push_back(static_cast<std::int32_t>(begin) + document);
    }
    const auto numbers = from.document_numbers(row);
    document_numbers_.insert(document_numbers_.end(), numbers.begin(), numbers.end());
    const auto ids = from.ids(row);
    const auto labels = from.labels(row);
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    labels_.insert(labels_.end(), labels.begin(), labels.end());
  }
  close_row();
}

void Dataset::close_row() {
  begins_.push_back(static_cast<std::int64_t>(ids_.size()));
  document_begins_.push_back(static_cast<std::int64_t>(documents_.size()));
  counts_.longest = std::max(counts_.longest, length(size() - 1));
}

void Dataset::keep_counts(const DatasetCounts& before) {
  const std::int64_t longest = counts_.longest;
  counts_ = before;
  counts_.longest = longest;
}

Dataset Dataset::split_off(std::int64_t rows) {
  const std::int64_t kept = size() - rows;
  const TokenRules everything{.max_length = counts_.longest};
  const auto copy = [&](std::int64_t from, std::int64_t to) {
    Dataset part;
    for (std::int64_t row = from; row < to; ++row) {
      TokenRow whole{{ids(row).begin(), ids(row).end()}, {kIgnored}};
      whole.labels.insert(whole.labels.end(), labels(row).begin(), labels(row).end() - 1);
      part.add(whole, everything);
    }
    return part;
  };
  Dataset tail = copy(kept, size());
  Dataset head = copy(0, kept);
  head.counts_.cut = counts_.cut;
  head.counts_.dropped = counts_.dropped;
  *this = std::move(head);
  return tail;
}

TokenRow tokenize_row(const DataRow& row, const Tokenizer* tokenizer, const TokenRules& rules) {
  if (tokenizer == nullptr && !std::holds_alternative<TokenRow>(row.content)) {
    user_error("{}: the row is text and the model folder has no tokenizer.json.", row.place);
  }
  TokenRow tokens =
      std::holds_alternative<TokenRow>(row.content)
          ? std::get<TokenRow>(row.content)
          : std::visit([&](const auto& c) { return tokenize(c, *tokenizer, rules); }, row.content);
  for (const std::int32_t id : tokens.ids) {
    if (id < 0 || id >= rules.vocab_size) {
      user_error("{}: token id {} is outside the model's vocabulary of {}.", row.place, id,
                 rules.vocab_size);
    }
  }
  return tokens;
}

Dataset load_dataset(const std::vector<std::string>& patterns, const Tokenizer* tokenizer,
                     const TokenRules& rules) {
  Dataset dataset;
  std::int64_t needed = 0;
  bool any = false;
  read_rows(find_data_files(patterns), [&](DataRow&& row) {
    any = true;
    const TokenRow tokens = tokenize_row(row, tokenizer, rules);
    const auto first = std::find_if(tokens.labels.begin(), tokens.labels.end(),
                                    [](std::int32_t label) { return label != kIgnored; });
    if (first != tokens.labels.end()) {
      const std::int64_t reach = std::max<std::int64_t>(first - tokens.labels.begin(), 1) + 1;
      needed = needed == 0 ? reach : std::min(needed, reach);
    }
    dataset.add(tokens, rules);
  });
  if (!any) user_error("{}: no row in the data.", fmt::join(patterns, ", "));
  if (dataset.size() > 0) return dataset;
  if (needed == 0) {
    user_error("{}: no row has a token to train on.", fmt::join(patterns, ", "));
  }
  user_error(
      "{}: all {} rows are dropped: no label within max_length={}. The shortest row needs "
      "max_length={}.",
      fmt::join(patterns, ", "), dataset.counts().dropped, rules.max_length, needed);
}

}  // namespace snug
