#include "data/batches.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <vector>

#include "core/error.h"

namespace snug {
namespace {

const TokenRules kRules{.max_length = 4096, .append_eos = false, .eos = -1, .vocab_size = 100};

TokenRow tokens(std::int64_t length) {
  TokenRow row;
  row.ids.resize(static_cast<std::size_t>(length));
  std::iota(row.ids.begin(), row.ids.end(), 1);
  row.labels = row.ids;
  return row;
}

Dataset dataset_of(const std::vector<std::int64_t>& lengths) {
  Dataset dataset;
  for (const std::int64_t length : lengths) dataset.add(tokens(length), kRules);
  return dataset;
}

TEST(Dataset, ShiftsCutsAndCounts) {
  Dataset dataset;
  TokenRules rules = kRules;
  rules.max_length = 4;
  dataset.add(tokens(3), rules);
  dataset.add(tokens(9), rules);
  TokenRow late = tokens(9);
  std::fill(late.labels.begin(), late.labels.begin() + 5, -100);  // trained only beyond the cut
  dataset.add(late, rules);
  dataset.add(tokens(1), rules);  // nothing to predict
  EXPECT_EQ(dataset.size(), 2);
  EXPECT_EQ(dataset.counts().cut, 1);
  EXPECT_EQ(dataset.counts().dropped, 2);
  EXPECT_EQ(dataset.counts().tokens, 7);
  EXPECT_EQ(dataset.counts().trained_tokens, 5);
  EXPECT_EQ(std::vector<std::int32_t>(dataset.labels(0).begin(), dataset.labels(0).end()),
            (std::vector<std::int32_t>{2, 3, -100}));
}

TEST(Dataset, SplitOffTakesARandomPartAndKeepsEveryRowOnce) {
  std::vector<std::int64_t> lengths(40);
  std::iota(lengths.begin(), lengths.end(), 2);
  Dataset dataset = dataset_of(lengths);
  Dataset again = dataset_of(lengths);
  const Dataset part = dataset.split_off(8, 5);
  ASSERT_EQ(dataset.size(), 32);
  ASSERT_EQ(part.size(), 8);
  std::vector<std::int64_t> all;
  std::vector<std::int64_t> taken;
  for (std::int64_t row = 0; row < part.size(); ++row) taken.push_back(part.length(row));
  for (std::int64_t row = 0; row < dataset.size(); ++row) all.push_back(dataset.length(row));
  EXPECT_TRUE(std::is_sorted(taken.begin(), taken.end()));
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end()));
  EXPECT_LT(taken.front(), 20);  // a tail would begin at 34
  all.insert(all.end(), taken.begin(), taken.end());
  std::sort(all.begin(), all.end());
  EXPECT_EQ(all, lengths);
  EXPECT_EQ(part.counts().rows, 8);
  EXPECT_EQ(part.label_count(0), part.length(0) - 1);
  const Dataset same = again.split_off(8, 5);
  for (std::int64_t row = 0; row < 8; ++row) EXPECT_EQ(same.length(row), part.length(row));
  Dataset other = dataset_of(lengths);
  const Dataset another = other.split_off(8, 6);
  bool differs = false;
  for (std::int64_t row = 0; row < 8; ++row) differs |= another.length(row) != part.length(row);
  EXPECT_TRUE(differs);
}

TEST(Dataset, LongRowsAsTheStrategySays) {
  TokenRules rules = kRules;
  rules.max_length = 4;
  const auto lengths = [&](ExcessLength excess, TruncationMode mode) {
    rules.excess = excess;
    rules.truncation = mode;
    Dataset dataset;
    dataset.add(tokens(10), rules);
    dataset.add(tokens(3), rules);
    return dataset;
  };
  const Dataset start = lengths(ExcessLength::truncate, TruncationMode::keep_start);
  EXPECT_EQ(start.size(), 2);
  EXPECT_EQ(start.ids(0)[0], 1);
  EXPECT_EQ(start.counts().cut_tokens, 6);
  const Dataset end = lengths(ExcessLength::truncate, TruncationMode::keep_end);
  EXPECT_EQ(end.ids(0)[0], 7);
  EXPECT_EQ(end.counts().cut_tokens, 6);
  const Dataset split = lengths(ExcessLength::split, TruncationMode::keep_start);
  ASSERT_EQ(split.size(), 4);
  EXPECT_EQ(split.ids(2)[1], 10);
  EXPECT_EQ(split.counts().cut_tokens, 0);
  const Dataset dropped = lengths(ExcessLength::drop, TruncationMode::keep_start);
  EXPECT_EQ(dropped.size(), 1);
  EXPECT_EQ(dropped.counts().dropped, 1);
  EXPECT_THROW(lengths(ExcessLength::raise, TruncationMode::keep_start), UserError);
  EXPECT_EQ(remarks_of(start.counts()).size(), 1U);  // 6 of 11 trained tokens are gone
  EXPECT_TRUE(remarks_of(split.counts()).empty());
}

TEST(Dataset, DocumentsOfARowDoNotSeeEachOther) {
  TokenRow row = tokens(6);
  row.documents = {0, 2, 5};
  Dataset dataset;
  dataset.add(row, kRules);
  EXPECT_EQ(std::vector<std::int32_t>(dataset.labels(0).begin(), dataset.labels(0).end()),
            (std::vector<std::int32_t>{2, -100, 4, 5, -100, -100}));
  EXPECT_EQ(std::vector<std::int32_t>(dataset.documents(0).begin(), dataset.documents(0).end()),
            (std::vector<std::int32_t>{0, 2, 5}));
}

TEST(Buckets, WasteLeastAndHoldTheLongest) {
  std::vector<std::int64_t> lengths(100, 20);
  lengths.insert(lengths.end(), {500, 510, 300});
  const Dataset dataset = dataset_of(lengths);
  EXPECT_EQ(choose_buckets(dataset, 8), (std::vector<std::int64_t>{32, 304, 510}));
  EXPECT_EQ(choose_buckets(dataset, 2), (std::vector<std::int64_t>{32, 510}));
  EXPECT_EQ(choose_buckets(dataset, 1), (std::vector<std::int64_t>{510}));
  const std::vector<std::int64_t> buckets = {32, 304, 510};
  EXPECT_EQ(bucket_of(buckets, 32), 0);
  EXPECT_EQ(bucket_of(buckets, 33), 1);
  EXPECT_THROW(bucket_of(buckets, 511), InternalError);
}

TEST(EpochOrder, IsAPermutationOfItsOwnForEachEpoch) {
  EpochOrder order(103, 8, RowOrder::random, 42);
  EXPECT_EQ(order.steps(), 13);
  const auto all = [&] {
    std::vector<std::int64_t> rows;
    for (std::int64_t s = 0; s < order.steps(); ++s) {
      rows.insert(rows.end(), order.step(s).begin(), order.step(s).end());
    }
    return rows;
  };
  const auto first = all();
  order.start(1);
  const auto second = all();
  order.start(0);
  EXPECT_EQ(all(), first);
  EXPECT_NE(first, second);
  EXPECT_EQ(std::set<std::int64_t>(second.begin(), second.end()).size(), 103U);
  EXPECT_EQ(order.step(12).size(), 7U);
}

TEST(MicroBatch, PaddingIsDocumentsOfItsOwn) {
  const Dataset dataset = dataset_of({3, 2});
  std::vector<std::int32_t> ids(12), labels(12), positions(12), doc_start(12);
  const std::vector<std::int64_t> rows = {0, 1};
  fill_micro_batch(dataset, rows, 4, {ids, labels, positions, doc_start});
  EXPECT_EQ(ids, (std::vector<std::int32_t>{1, 2, 3, 0, 1, 2, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(labels, (std::vector<std::int32_t>{2, 3, -100, -100, 2, -100, -100, -100, -100, -100,
                                               -100, -100}));
  EXPECT_EQ(positions, (std::vector<std::int32_t>{0, 1, 2, 0, 0, 1, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(doc_start, (std::vector<std::int32_t>{0, 0, 0, 3, 4, 4, 6, 7, 8, 9, 10, 11}));
}

}  // namespace
}  // namespace snug
