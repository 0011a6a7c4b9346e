// SNUG_TEST_ISA=avx2|avx512|avx512_bf16|amx caps what the kernels under test may use.

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <cstdlib>
#include <string>

#include "backend/cpu/isa.h"
#include "backend/cpu/parallel.h"

namespace snug {
namespace {

class IsaCap : public ::testing::Environment {
 public:
  void SetUp() override {
    const char* name = std::getenv("SNUG_TEST_ISA");
    if (name == nullptr) return;
    const auto isa = isa_from_name(name);
    ASSERT_TRUE(isa) << "SNUG_TEST_ISA=" << name;
    cap_isa(*isa);
  }
};

// NOLINTNEXTLINE(bugprone-throwing-static-initialization): gtest's way without a main
const auto* const kCap = ::testing::AddGlobalTestEnvironment(new IsaCap);

TEST(IsaCap, HighwayKeepsTheCap) {
  choose_target();
  const char* name = std::getenv("SNUG_TEST_ISA");
  if (name == nullptr || std::string(name) != "avx2") GTEST_SKIP() << "no cap below AVX-512";
  EXPECT_EQ(hwy::SupportedTargets() & (HWY_AVX2 - 1), 0);
}

}  // namespace
}  // namespace snug
