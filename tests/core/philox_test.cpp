#include "core/philox.h"

#include <gtest/gtest.h>

#include <set>

namespace snug {
namespace {

// Random123's kat_vectors, "philox4x32 10".
TEST(Philox, GivesTheKnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomStream, CutsBlocksIntoElements) {
  const RandomStream random{.seed = 7, .stream = stream_hash("dw"), .step = 3, .part = 1};
  for (const std::uint64_t block : {std::uint64_t{0}, std::uint64_t{5}, std::uint64_t{1} << 40}) {
    const PhiloxBlock words = random.block(block);
    for (std::uint64_t i = 0; i < 4; ++i) {
      EXPECT_EQ(random.bits32(block * 4 + i), words[i]);
      EXPECT_EQ(random.bits16(block * 8 + 2 * i), words[i] & 0xffffU);
      EXPECT_EQ(random.bits16(block * 8 + 2 * i + 1), words[i] >> 16);
    }
  }
}

TEST(RandomStream, DependsOnEveryField) {
  const std::uint64_t a = stream_hash("a");
  std::set<PhiloxBlock> blocks;
  for (const RandomStream& random :
       {RandomStream{1, a, 0, 0}, RandomStream{2, a, 0, 0},
        RandomStream{std::uint64_t{1} << 40, a, 0, 0}, RandomStream{1, stream_hash("b"), 0, 0},
        RandomStream{1, a, 1, 0}, RandomStream{1, a, 0, 1}}) {
    blocks.insert(random.block(0));
    blocks.insert(random.block(std::uint64_t{1} << 32));
  }
  EXPECT_EQ(blocks.size(), 12U);
}

TEST(StreamHash, TellsNamesApart) {
  std::set<std::uint64_t> hashes;
  for (const char* name : {"", "a", "b", "ab", "ba", "layers.1", "layers.11"}) {
    hashes.insert(stream_hash(name));
  }
  EXPECT_EQ(hashes.size(), 7U);
}

}  // namespace
}  // namespace snug
