#include "backend/cpu/isa.h"

#include <gtest/gtest.h>

namespace snug {
namespace {

TEST(Isa, NamesGoBothWays) {
  for (const Isa isa : {Isa::avx2, Isa::avx512, Isa::avx512_bf16, Isa::amx}) {
    EXPECT_EQ(isa_from_name(name_of(isa)), isa);
  }
  EXPECT_EQ(isa_from_name("sse2"), std::nullopt);
}

TEST(Isa, DetectsTheSameTwice) { EXPECT_EQ(detect_isa(), detect_isa()); }

}  // namespace
}  // namespace snug
