#include "data/dataset.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "core/philox.h"
#include "core/text.h"

namespace snug {
namespace {

constexpr std::int32_t kIgnored = -100;

constexpr std::size_t kShownBadRows = 5;

std::int64_t labels_in(const TokenRow& row, std::int64_t begin, std::int64_t end) {
  return std::count_if(row.labels.begin() + begin, row.labels.begin() + end,
                       [](std::int32_t label) { return label != kIgnored; });
}

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

void Dataset::add_part(const TokenRow& row, std::int64_t begin, std::int64_t end) {
  std::vector<std::int32_t> documents = {0};
  for (const std::int32_t document : row.documents) {
    if (document > begin && document < end) {
      documents.push_back(static_cast<std::int32_t>(document - begin));
    }
  }
  std::vector<std::int32_t> shifted(row.labels.begin() + begin + 1, row.labels.begin() + end);
  shifted.push_back(kIgnored);
  // The first token of a document is predicted by nothing.
  for (const std::int32_t document : documents) {
    if (document > 0) shifted[static_cast<std::size_t>(document) - 1] = kIgnored;
  }
  const std::int64_t length = end - begin;
  const auto trained = length - std::count(shifted.begin(), shifted.end(), kIgnored);
  if (trained == 0) {
    ++counts_.dropped;
    return;
  }
  ids_.insert(ids_.end(), row.ids.begin() + begin, row.ids.begin() + end);
  labels_.insert(labels_.end(), shifted.begin(), shifted.end());
  for (const std::int32_t document : documents) {
    documents_.push_back(document);
    document_numbers_.push_back(static_cast<std::int32_t>(document_numbers_.size()));
  }
  close_row();
  ++counts_.rows;
  counts_.tokens += length;
  counts_.trained_tokens += trained;
}

void Dataset::add(const TokenRow& row, const TokenRules& rules, const std::string& place) {
  add(EncodedRow{row}, rules, place);
}

void Dataset::add(const EncodedRow& encoded, const TokenRules& rules, const std::string& place) {
  const TokenRow& row = encoded.tokens;
  const auto length = static_cast<std::int64_t>(row.ids.size());
  if (encoded.moved_seam) ++counts_.moved_seams;
  if (encoded.twice_begun) ++counts_.twice_begun;
  if (length == 0) {
    ++counts_.dropped;
    return;
  }
  if (length <= rules.max_length) return add_part(row, 0, length);
  ExcessLength excess = rules.excess;
  if (excess == ExcessLength::automatic) {
    excess = encoded.document ? ExcessLength::split : ExcessLength::truncate;
  }
  const std::int64_t kept = counts_.rows;
  std::int64_t begin = 0;
  switch (excess) {
    case ExcessLength::raise:
      user_error("{}: {} tokens, above max_length={}, and excess_length_strategy is raise.", place,
                 length, rules.max_length);
    case ExcessLength::drop:
      ++counts_.dropped;
      counts_.cut_tokens += labels_in(row, 0, length);
      return;
    case ExcessLength::split:
      for (; begin < length; begin += rules.max_length) {
        add_part(row, begin, std::min(begin + rules.max_length, length));
      }
      break;
    default:
      if (rules.truncation == TruncationMode::keep_end) begin = length - rules.max_length;
      counts_.cut_tokens +=
          labels_in(row, 0, begin) + labels_in(row, begin + rules.max_length, length);
      add_part(row, begin, begin + rules.max_length);
  }
  if (counts_.rows > kept) ++counts_.cut;
}

void Dataset::count_bad(const std::string& reason) {
  if (counts_.bad_rows.size() < kShownBadRows) counts_.bad_rows.push_back(reason);
  ++counts_.bad;
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

Dataset Dataset::split_off(std::int64_t rows, std::uint64_t seed) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(size()));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  const RandomStream stream{.seed = seed, .stream = stream_hash("data/split"), .step = 0};
  const auto taken = order.begin() + rows;
  for (auto at = order.begin(); at != taken; ++at) {
    const auto left = static_cast<std::uint64_t>(order.end() - at);
    const PhiloxBlock block = stream.block(static_cast<std::uint64_t>(at - order.begin()));
    const std::uint64_t random = (std::uint64_t{block[1]} << 32) | block[0];
    std::iter_swap(at, at + static_cast<std::ptrdiff_t>(random % left));
  }
  std::sort(order.begin(), taken);
  std::sort(taken, order.end());
  Dataset part;
  Dataset rest;
  for (auto at = order.begin(); at != order.end(); ++at) {
    Dataset& to = at < taken ? part : rest;
    to.append(*this, {&*at, 1});
    ++to.counts_.rows;
    to.counts_.tokens += length(*at);
    to.counts_.trained_tokens += label_count(*at);
  }
  DatasetCounts counts = counts_;
  counts.rows = rest.counts_.rows;
  counts.tokens = rest.counts_.tokens;
  counts.trained_tokens = rest.counts_.trained_tokens;
  counts.longest = rest.counts_.longest;
  rest.counts_ = std::move(counts);
  *this = std::move(rest);
  return part;
}

Dataset load_dataset(const std::vector<std::string>& sources, const DataSettings& settings,
                     const RowEncoder& encoder) {
  Dataset dataset;
  std::int64_t needed = 0;
  bool any = false;
  const auto take = [&](DataRow&& row) {
    any = true;
    const EncodedRow encoded = encode_row(row, encoder);
    const std::vector<std::int32_t>& labels = encoded.tokens.labels;
    const auto first = std::find_if(labels.begin(), labels.end(),
                                    [](std::int32_t label) { return label != kIgnored; });
    if (first != labels.end()) {
      const std::int64_t reach = std::max<std::int64_t>(first - labels.begin(), 1) + 1;
      needed = needed == 0 ? reach : std::min(needed, reach);
    }
    dataset.add(encoded, encoder.rules, row.place);
  };
  std::function<void(const std::string&)> bad;
  if (settings.bad_rows == BadRows::skip) {
    bad = [&](const std::string& reason) { dataset.count_bad(reason); };
  }
  read_rows(sources, settings, take, bad);
  const std::string names = fmt::format("{}", fmt::join(sources, ", "));
  if (dataset.size() > 0) return dataset;
  if (dataset.counts().bad > 0) {
    user_error("{}: no row is left; {} were skipped, the first because of: {}", names,
               dataset.counts().bad, dataset.counts().bad_rows.front());
  }
  if (!any) user_error("{}: no row in the data.", names);
  if (needed == 0) user_error("{}: no row has a token to train on.", names);
  user_error(
      "{}: all {} rows are dropped: no label within max_length={}. The shortest row needs "
      "max_length={}.",
      names, dataset.counts().dropped, encoder.rules.max_length, needed);
}

std::vector<std::string> remarks_of(const DatasetCounts& counts) {
  constexpr std::int64_t kWorthAWarning = 20;  // a 20th of the trained tokens
  std::vector<std::string> lines;
  if (counts.bad > 0) {
    lines.push_back(fmt::format("skipped: {} rows that could not be used; the first:", counts.bad));
    for (const std::string& reason : counts.bad_rows) lines.push_back("  " + reason);
  }
  if (counts.cut_tokens * kWorthAWarning > counts.cut_tokens + counts.trained_tokens) {
    lines.push_back(fmt::format(
        "warning: max_length takes away {} of {} trained tokens ({:.1f} %). A larger max_length or "
        "excess_length_strategy=split keeps them.",
        group_digits(counts.cut_tokens), group_digits(counts.cut_tokens + counts.trained_tokens),
        100.0 * static_cast<double>(counts.cut_tokens) /
            static_cast<double>(counts.cut_tokens + counts.trained_tokens)));
  }
  if (counts.twice_begun > 0) {
    lines.push_back(
        fmt::format("warning: {} rows begin with the token of the beginning twice: it "
                    "stands in the text and is added to it.",
                    counts.twice_begun));
  }
  if (counts.moved_seams > 0) {
    lines.push_back(
        fmt::format("note: in {} rows the end of the prompt and the beginning of the "
                    "completion share a token, which is trained.",
                    counts.moved_seams));
  }
  return lines;
}

}  // namespace snug
