#include "data/packing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "data/batches.h"

namespace snug {
namespace {

using testing::ElementsAre;

Dataset rows_of(const std::vector<std::int64_t>& lengths) {
  Dataset dataset;
  std::int32_t next = 1;
  for (const std::int64_t length : lengths) {
    TokenRow row;
    for (std::int64_t t = 0; t < length; ++t) row.ids.push_back(next++);
    row.labels = row.ids;
    dataset.add(row, {.max_length = 100});
  }
  return dataset;
}

TEST(Packing, PutsEachRowWhereItFitsBest) {
  // 6 opens a sequence of 8, 5 another; 3 fills the second, 2 the first; 2 opens a third.
  const std::vector<std::int64_t> lengths = {2, 5, 3, 6, 2};
  EXPECT_THAT(best_fit_decreasing(lengths, 8),
              ElementsAre(ElementsAre(3, 0), ElementsAre(1, 2), ElementsAre(4)));
}

TEST(Packing, KeepsEveryRowOnceWithinTheCapacity) {
  std::mt19937 random(5);
  for (int round = 0; round < 20; ++round) {
    const std::int64_t capacity = 16 + static_cast<std::int64_t>(random() % 100);
    std::vector<std::int64_t> lengths(random() % 200);
    for (std::int64_t& length : lengths)
      length = 1 + static_cast<std::int64_t>(random()) % capacity;
    std::vector<int> seen(lengths.size(), 0);
    std::int64_t half_empty = 0;
    for (const auto& sequence : best_fit_decreasing(lengths, capacity)) {
      std::int64_t filled = 0;
      for (const std::int64_t row : sequence) {
        ++seen[static_cast<std::size_t>(row)];
        filled += lengths[static_cast<std::size_t>(row)];
      }
      EXPECT_LE(filled, capacity);
      half_empty += filled * 2 <= capacity ? 1 : 0;
    }
    EXPECT_THAT(seen, testing::Each(1));
    EXPECT_LE(half_empty, 1);  // two of them would have been one
  }
}

TEST(Packing, DocumentsHavePositionsOfTheirOwnAndDoNotSeeEachOther) {
  const Dataset rows = rows_of({3, 5, 2});
  const Dataset packed = pack(rows, 8);
  ASSERT_EQ(packed.size(), 2);
  EXPECT_THAT(packed.documents(0), ElementsAre(0, 5));
  EXPECT_THAT(packed.documents(1), ElementsAre(0));
  EXPECT_EQ(packed.counts().rows, 3);
  EXPECT_EQ(packed.counts().longest, 8);
  EXPECT_EQ(packed.counts().trained_tokens, rows.counts().trained_tokens);
  std::vector<std::int32_t> ids(10), labels(10), positions(10), starts(10), numbers(10);
  const std::int64_t row = 0;
  fill_micro_batch(packed, std::span(&row, 1), 10, {ids, labels, positions, starts, numbers});
  EXPECT_THAT(ids, ElementsAre(4, 5, 6, 7, 8, 1, 2, 3, 0, 0));
  EXPECT_THAT(labels, ElementsAre(5, 6, 7, 8, -100, 2, 3, -100, -100, -100));
  EXPECT_THAT(positions, ElementsAre(0, 1, 2, 3, 4, 0, 1, 2, 0, 0));
  EXPECT_THAT(starts, ElementsAre(0, 0, 0, 0, 0, 5, 5, 5, 8, 9));
  EXPECT_THAT(numbers, ElementsAre(1, 1, 1, 1, 1, 0, 0, 0, -1, -1));
}

TEST(Packing, LabelsAreCountedAsInRowsApart) {
  const Dataset packed = pack(rows_of({3, 5, 2, 4, 4}), 9);
  std::int64_t labels = 0;
  for (std::int64_t row = 0; row < packed.size(); ++row) labels += packed.label_count(row);
  EXPECT_EQ(labels, 13);
  EXPECT_THAT(describe_packing(packed), testing::HasSubstr("5 rows in 2 sequences of at most 9"));
}

}  // namespace
}  // namespace snug
