#include "data/batches.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <vector>

#include "core/error.h"

namespace snug {
namespace {

constexpr TokenRules kRules{.max_length = 4096, .append_eos = false, .eos = -1, .vocab_size = 100};

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

TEST(Dataset, SplitOffKeepsEveryRowOnce) {
  Dataset dataset = dataset_of({3, 4, 5, 6});
  const Dataset tail = dataset.split_off(1);
  EXPECT_EQ(dataset.size(), 3);
  EXPECT_EQ(tail.size(), 1);
  EXPECT_EQ(tail.length(0), 6);
  EXPECT_EQ(tail.label_count(0), 5);
  EXPECT_EQ(dataset.counts().longest, 5);
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
