#include "core/bytes.h"

#include <gtest/gtest.h>

#include <limits>

namespace snug {
namespace {

constexpr std::int64_t kGiB = 1073741824;

TEST(Bytes, ReadsDecimalAndBinaryUnits) {
  EXPECT_EQ(parse_bytes("8GB"), Bytes{8'000'000'000});
  EXPECT_EQ(parse_bytes("8GiB"), Bytes{8 * kGiB});
  EXPECT_EQ(parse_bytes("1.5 GiB"), Bytes{3 * kGiB / 2});
  EXPECT_EQ(parse_bytes("64mib"), Bytes{kGiB / 16});
  EXPECT_EQ(parse_bytes("0.9GB"), Bytes{900'000'000});
  EXPECT_EQ(parse_bytes("123"), Bytes{123});
  EXPECT_EQ(parse_bytes("0"), Bytes{0});
  EXPECT_EQ(parse_bytes("7B"), Bytes{7});
}

TEST(Bytes, RefusesOtherText) {
  for (const char* text : {"", "GB", "-1GB", "8G", "8 G B", "1.GB", "1..5GB", "8GBs", "1e9", "GB8",
                           "+1GB", "9223372036854775808", "9300000TB", "8  GB"}) {
    EXPECT_EQ(parse_bytes(text), std::nullopt) << text;
  }
}

TEST(Bytes, PrintsWhatReadsBack) {
  EXPECT_EQ(exact_bytes({8 * kGiB}), "8GiB");
  EXPECT_EQ(exact_bytes({8'000'000'000}), "8GB");
  EXPECT_EQ(exact_bytes({1501}), "1501B");
  EXPECT_EQ(exact_bytes({0}), "0B");
  for (const std::int64_t count :
       {std::int64_t{0}, std::int64_t{1}, std::int64_t{1536}, kGiB * 1048576,
        std::int64_t{3'000'000'001}, std::numeric_limits<std::int64_t>::max()}) {
    EXPECT_EQ(parse_bytes(exact_bytes({count})), Bytes{count});
  }
}

}  // namespace
}  // namespace snug
