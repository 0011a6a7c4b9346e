#include "core/text.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>

namespace snug {
namespace {

TEST(Text, EditDistanceCountsEachKindOfSlipOnce) {
  EXPECT_EQ(edit_distance("", ""), 0);
  EXPECT_EQ(edit_distance("rate", ""), 4);
  EXPECT_EQ(edit_distance("rate", "rat"), 1);
  EXPECT_EQ(edit_distance("rate", "rates"), 1);
  EXPECT_EQ(edit_distance("rate", "rare"), 1);
  EXPECT_EQ(edit_distance("learning_rtae", "learning_rate"), 1);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
}

TEST(Text, NearestFindsTheLikelySpellingAndNothingElse) {
  constexpr std::array<std::string_view, 3> kKeys = {"learning_rate", "lr_scheduler_type", "seed"};
  EXPECT_EQ(nearest("learning_rte", kKeys), "learning_rate");
  EXPECT_EQ(nearest("Learning_Rate", kKeys), "learning_rate");
  EXPECT_EQ(nearest("sede", kKeys), "seed");
  EXPECT_FALSE(nearest("banana", kKeys));
  EXPECT_FALSE(nearest("x", {}));
}

TEST(Text, CountsTheColumnsOfATerminal) {
  EXPECT_EQ(display_columns(""), 0);
  EXPECT_EQ(display_columns("a · b"), 5);
  EXPECT_EQ(display_columns("日本"), 4);
  EXPECT_EQ(display_columns("e\u0301"), 1) << "a mark that combines";
  EXPECT_EQ(display_columns("\xff\xfe"), 2) << "no UTF-8";
  EXPECT_EQ(cut_to_columns("a · b", 3), "a ·");
  EXPECT_EQ(cut_to_columns("日本", 3), "日");
  EXPECT_EQ(cut_to_columns("e\u0301x", 1), "e\u0301");
  EXPECT_EQ(cut_to_columns("abc", 0), "");
  EXPECT_EQ(cut_to_columns("abc", 9), "abc");
}

TEST(Text, NumbersReadAsPeopleWriteThem) {
  EXPECT_EQ(group_digits(0), "0");
  EXPECT_EQ(group_digits(999), "999");
  EXPECT_EQ(group_digits(-1000), "-1,000");
  EXPECT_EQ(group_digits(4294967296), "4,294,967,296");
  EXPECT_EQ(group_digits(std::numeric_limits<std::int64_t>::min()), "-9,223,372,036,854,775,808");
  EXPECT_EQ(decimal_bytes(17), "17 B");
  EXPECT_EQ(decimal_bytes(96'400'000'000), "96.4 GB");
  EXPECT_EQ(decimal_bytes(212'000'000'000), "212 GB");
  EXPECT_EQ(decimal_bytes(305'300'000'000), "305.3 GB");
  EXPECT_EQ(decimal_bytes(999'999'999), "1 GB");
  EXPECT_EQ(binary_bytes(1023), "1023 B");
  EXPECT_EQ(binary_bytes(8LL << 30), "8.00 GiB");
  EXPECT_EQ(binary_bytes((8LL << 30) - 1), "8.00 GiB");
  EXPECT_EQ(binary_bytes((1LL << 30) - 1), "1.00 GiB");
}

}  // namespace
}  // namespace snug
