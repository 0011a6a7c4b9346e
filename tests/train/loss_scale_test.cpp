#include "train/loss_scale.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"

namespace snug {
namespace {

TEST(LossScale, MovesAsTorchsGradScaler) {
  LossScale scale;
  EXPECT_EQ(scale.scale(), 65536);
  scale.update(false);
  EXPECT_EQ(scale.scale(), 32768);
  for (int i = 0; i < 1999; ++i) scale.update(true);
  EXPECT_EQ(scale.scale(), 32768);
  scale.update(true);
  EXPECT_EQ(scale.scale(), 65536);
  // An overflow starts the count anew.
  for (int i = 0; i < 1999; ++i) scale.update(true);
  scale.update(false);
  for (int i = 0; i < 1999; ++i) scale.update(true);
  EXPECT_EQ(scale.scale(), 32768);
  EXPECT_EQ(scale.skipped(), 2);
}

TEST(LossScale, NeverGrowsBeyondFp32) {
  LossScale scale = LossScale::from_json(
      R"({"scale": 1.7014118346046923e38, "growth_tracker": 1999, "skipped": 0})", "scaler.json");
  scale.update(true);
  EXPECT_EQ(scale.scale(), 1.7014118346046923e38);
}

TEST(LossScale, BelowOneIsAnError) {
  LossScale scale;
  for (int i = 0; i < 16; ++i) scale.update(false);
  EXPECT_EQ(scale.scale(), 1);
  try {
    scale.update(false);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("loss scale of 1 (17 updates skipped)"));
  }
}

TEST(LossScale, IsReadBackAsItWas) {
  LossScale scale;
  for (int i = 0; i < 700; ++i) scale.update(i % 100 != 0 || i == 0);
  const LossScale read = LossScale::from_json(scale.to_json(), "scaler.json");
  EXPECT_EQ(read.to_json(), scale.to_json());
  for (const char* text : {"{}", R"({"scale": 0.5, "growth_tracker": 0, "skipped": 0})",
                           R"({"scale": "x", "growth_tracker": 0, "skipped": 0})",
                           R"({"scale": 4, "growth_tracker": -1, "skipped": 0})", "[", "3"}) {
    EXPECT_THROW(LossScale::from_json(text, "scaler.json"), UserError) << text;
  }
}

}  // namespace
}  // namespace snug
