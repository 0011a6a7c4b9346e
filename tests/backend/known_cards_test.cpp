// What is remembered of cards from run to run.

#include "backend/cuda/known_cards.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

namespace snug::cuda {
namespace {

namespace fs = std::filesystem;

class KnownCards : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "snug-cards-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    file_ = folder_ / "snug" / "cards.json";
    measured_ = card_from_profile("l4");
    measured_.name = "NVIDIA L4";
    measured_.overhead_bytes = 300 << 20;
    measured_.measured = true;
  }
  void TearDown() override { fs::remove_all(folder_); }
  void write(const char* text) {
    fs::create_directories(file_.parent_path());
    std::ofstream(file_) << text;
  }
  fs::path folder_, file_;
  Card measured_;
};

TEST_F(KnownCards, TheLeastMeasuredIsFoundByTheProfile) {
  const Card profile = card_from_profile("l4");
  EXPECT_EQ(remembered_overhead(file_, profile), std::nullopt);
  remember_overhead(file_, measured_);
  EXPECT_EQ(remembered_overhead(file_, profile), 300 << 20);
  measured_.overhead_bytes = 280 << 20;
  remember_overhead(file_, measured_);
  measured_.overhead_bytes = 500 << 20;  // with another process on the card
  remember_overhead(file_, measured_);
  EXPECT_EQ(remembered_overhead(file_, profile), 280 << 20);
  EXPECT_EQ(remembered_overhead(file_, card_from_profile("l40s")), std::nullopt);
}

TEST_F(KnownCards, AnEstimateIsNotRemembered) {
  remember_overhead(file_, card_from_profile("l4"));
  EXPECT_FALSE(fs::exists(file_));
}

TEST_F(KnownCards, WhatCannotBeReadIsAsIfItWereNot) {
  for (const char* text : {"", "[1, 2]", "{\"l4\": \"much\"}", "{\"l4\": -5}", "{\"l4\": 1e30}",
                           "{\"l4\": 99999999999999}"}) {
    write(text);
    EXPECT_EQ(remembered_overhead(file_, measured_), std::nullopt) << text;
  }
  remember_overhead(file_, measured_);
  EXPECT_EQ(remembered_overhead(file_, measured_), 300 << 20);
  EXPECT_EQ(remembered_overhead({}, measured_), std::nullopt);
  remember_overhead({}, measured_);
  remember_overhead("/proc/nowhere/cards.json", measured_);
}

}  // namespace
}  // namespace snug::cuda
