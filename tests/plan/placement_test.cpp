#include "plan/placement.h"

#include <gtest/gtest.h>

#include <random>

#include "core/error.h"
#include "plan/traces.h"

namespace snug {
namespace {

/// Highest end of any block, after checking every pair that lives together.
std::int64_t checked_peak(const std::vector<Block>& blocks, const Placement& placed,
                          std::int64_t alignment) {
  std::int64_t peak = 0;
  for (std::size_t a = 0; a < blocks.size(); ++a) {
    EXPECT_EQ(placed.offsets[a] % alignment, 0);
    const std::int64_t a_end = placed.offsets[a] + align_up(blocks[a].bytes, alignment);
    peak = std::max(peak, a_end);
    for (std::size_t b = a + 1; b < blocks.size(); ++b) {
      if (blocks[a].end < blocks[b].begin || blocks[b].end < blocks[a].begin) continue;
      const bool apart =
          a_end <= placed.offsets[b] || placed.offsets[b] + blocks[b].bytes <= placed.offsets[a];
      EXPECT_TRUE(apart || blocks[a].bytes == 0 || blocks[b].bytes == 0) << a << " and " << b;
    }
  }
  return peak;
}

std::int64_t brute_lower_bound(const std::vector<Block>& blocks, std::int64_t alignment) {
  std::int64_t most = 0;
  for (const Block& at : blocks) {
    std::int64_t alive = 0;
    for (const Block& block : blocks) {
      if (block.begin <= at.begin && at.begin <= block.end) {
        alive += align_up(block.bytes, alignment);
      }
    }
    most = std::max(most, alive);
  }
  return most;
}

TEST(Placement, NothingNeedsNothing) {
  const Placement placed = place({}, {.alignment = 64});
  EXPECT_EQ(placed.peak, 0);
  EXPECT_EQ(placed.lower_bound, 0);
}

TEST(Placement, BlocksThatMeetAtAnInstantDoNotOverlap) {
  const std::vector<Block> blocks = {{0, 3, 100}, {3, 5, 100}, {4, 6, 100}};
  const Placement placed = place(blocks, {.alignment = 64});
  EXPECT_EQ(checked_peak(blocks, placed, 64), placed.peak);
  EXPECT_EQ(placed.peak, 256);
  EXPECT_EQ(placed.lower_bound, 256);
}

TEST(Placement, RefusesABlockThatEndsBeforeItBegins) {
  const std::vector<Block> blocks = {{3, 2, 1}};
  EXPECT_THROW(place(blocks, {.alignment = 64}), InternalError);
}

TEST(Placement, RandomBlocksNeverOverlapAndThePeakIsTheHighestAddress) {
  for (unsigned seed = 0; seed < 40; ++seed) {
    std::mt19937 random(seed);
    const auto pick = [&](int low, int high) {
      return std::uniform_int_distribution<int>(low, high)(random);
    };
    std::vector<Block> blocks;
    const int instants = pick(1, 300);
    for (int i = pick(1, 400); i > 0; --i) {
      const int begin = pick(0, instants - 1);
      const int end =
          pick(0, 4) == 0 ? pick(begin, instants - 1) : std::min(instants - 1, begin + pick(0, 5));
      blocks.push_back({begin, end, pick(0, 20) == 0 ? 0 : pick(1, 1 << pick(1, 20))});
    }
    const std::int64_t alignment = pick(0, 1) == 0 ? 64 : 4096;
    const Placement placed = place(blocks, {.alignment = alignment});
    ASSERT_EQ(checked_peak(blocks, placed, alignment), placed.peak) << "seed " << seed;
    ASSERT_EQ(brute_lower_bound(blocks, alignment), placed.lower_bound) << "seed " << seed;
    ASSERT_GE(placed.peak, placed.lower_bound);
  }
}

TEST(Placement, StaysWithinOnePercentOnTrainingTraces) {
  for (const TraceShape& shape : trace_shapes()) {
    const std::vector<Block> blocks = training_trace(shape);
    const Placement placed = place(blocks, {.alignment = 64});
    EXPECT_LE(static_cast<double>(placed.peak), 1.01 * static_cast<double>(placed.lower_bound))
        << shape.name << " by " << placed.order;
    if (blocks.size() < 3000) {
      EXPECT_EQ(checked_peak(blocks, placed, 64), placed.peak) << shape.name;
    }
  }
}

TEST(Placement, KeepsClearOfFixedBlocksAndCountsThem) {
  for (unsigned seed = 0; seed < 40; ++seed) {
    std::mt19937 random(seed);
    const auto pick = [&](int low, int high) {
      return std::uniform_int_distribution<int>(low, high)(random);
    };
    // Fixed blocks lie side by side, some with holes in time before or after them.
    std::vector<FixedBlock> fixed;
    std::vector<Block> blocks;
    std::int64_t offset = 0;
    for (int i = pick(1, 10); i > 0; --i) {
      const Block block{pick(0, 20), pick(20, 60), pick(1, 500)};
      fixed.push_back({block, offset});
      offset += align_up(block.bytes, 64);
    }
    for (int i = pick(1, 100); i > 0; --i) {
      const int begin = pick(0, 60);
      blocks.push_back({begin, std::min(60, begin + pick(0, 12)), pick(0, 700)});
    }
    const PlaceOptions options{.alignment = 64, .fixed = fixed};
    const Placement placed = place(blocks, options);
    std::vector<Block> all = blocks;
    Placement together = placed;
    for (const FixedBlock& block : fixed) {
      all.push_back(block.block);
      together.offsets.push_back(block.offset);
    }
    ASSERT_EQ(checked_peak(all, together, 64), placed.peak) << "seed " << seed;
    ASSERT_EQ(brute_lower_bound(all, 64), placed.lower_bound) << "seed " << seed;
    ASSERT_EQ(most_alive(blocks, options), placed.lower_bound);
  }
}

TEST(Placement, IsContentWithEnough) {
  const std::vector<Block> blocks = training_trace(trace_shapes().front());
  const Placement best = place(blocks, {.alignment = 64});
  const Placement placed = place(blocks, {.alignment = 64, .enough = 2 * best.lower_bound});
  EXPECT_EQ(placed.lower_bound, best.lower_bound);
  EXPECT_LE(placed.peak, 2 * best.lower_bound);
}

TEST(Placement, GivesTheSameOffsetsEachTime) {
  const std::vector<Block> blocks = training_trace(trace_shapes().front());
  EXPECT_EQ(place(blocks, {.alignment = 64}).offsets, place(blocks, {.alignment = 64}).offsets);
}

}  // namespace
}  // namespace snug
