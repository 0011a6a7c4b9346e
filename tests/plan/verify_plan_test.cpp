#include "plan/verify_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <utility>

#include "core/error.h"
#include "plan/random_module.h"
#include "plan/scratch_kernels.h"

namespace snug {
namespace {

using testing::HasSubstr;

std::string complaint(const Plan& plan) {
  try {
    verify_plan(plan);
  } catch (const InternalError& error) {
    return error.what();
  }
  return "";
}

class BrokenPlan : public testing::Test {
 protected:
  StepModule module_ = random_module(2, 60, true);
  Plan plan_ = make_plan(module_, ScratchKernels(), {});
};

TEST_F(BrokenPlan, IsFineBeforeItIsBroken) { EXPECT_EQ(complaint(plan_), ""); }

TEST_F(BrokenPlan, AnyMissingWaitIsFound) {
  int removed = 0;
  for (ProgramPlan& program : plan_.programs) {
    for (Instruction& instruction : program.instructions) {
      for (std::int32_t w = 0; w < instruction.waits; ++w) {
        // The wait moves to the end of the instruction's list, which then ends before it.
        Wait* waits = &program.waits[static_cast<std::size_t>(instruction.first_wait)];
        std::swap(waits[w], waits[instruction.waits - 1]);
        --instruction.waits;
        EXPECT_THAT(complaint(plan_), HasSubstr("does not wait for"));
        ++instruction.waits;
        ++removed;
      }
    }
  }
  EXPECT_GT(removed, 20);
}

TEST_F(BrokenPlan, NullPlayMeetsTheOrderThatMissingWaitsAllow) {
  for (ProgramPlan& program : plan_.programs) {
    for (Instruction& instruction : program.instructions) instruction.waits = 0;
  }
  EXPECT_THROW(play_null(plan_), InternalError);
}

TEST_F(BrokenPlan, AWaitForALaterInstructionIsFound) {
  for (ProgramPlan& program : plan_.programs) {
    if (program.waits.empty()) continue;
    program.waits[0].instruction = static_cast<std::int32_t>(program.instructions.size()) - 1;
    break;
  }
  EXPECT_THAT(complaint(plan_), HasSubstr("waits for instruction"));
}

TEST_F(BrokenPlan, AnOverlapIsFound) {
  // Moves a value onto another one that is alive until after it.
  ProgramPlan& program = plan_.programs[1];
  for (std::size_t a = 0; a < program.storages.size(); ++a) {
    for (std::size_t b = 0; b < program.storages.size(); ++b) {
      const Storage& long_lived = program.storages[a];
      Storage& moved = program.storages[b];
      if (a == b || moved.space != long_lived.space) continue;
      if (!(long_lived.begin < moved.begin && moved.end < long_lived.end)) continue;
      const std::int64_t shift = long_lived.offset - moved.offset;
      moved.offset += shift;
      for (PlannedOperand& operand : program.operands) {
        if (!exists(operand.value)) continue;
        const std::int32_t owner = program.storage_of[static_cast<std::size_t>(operand.value)];
        if (owner == static_cast<std::int32_t>(b)) operand.offset += shift;
      }
      EXPECT_NE(complaint(plan_), "");
      return;
    }
  }
  FAIL() << "no two values to overlap";
}

TEST_F(BrokenPlan, AnAddressBeyondTheArenaIsFound) {
  plan_.arenas[0].bytes -= 64;
  EXPECT_THAT(complaint(plan_), HasSubstr("of an arena of"));
}

TEST_F(BrokenPlan, AnOperandBeyondItsStorageIsFound) {
  ProgramPlan& program = plan_.programs[0];
  program.operands[static_cast<std::size_t>(program.instructions[0].first_operand)].offset += 4;
  EXPECT_THAT(complaint(plan_), HasSubstr("reaches beyond"));
}

TEST_F(BrokenPlan, AMisalignedValueIsFound) {
  plan_.programs[0].storages[0].offset += 4;
  EXPECT_THAT(complaint(plan_), HasSubstr("is not aligned"));
}

TEST_F(BrokenPlan, ScratchOverAnOperandIsFound) {
  for (ProgramPlan& program : plan_.programs) {
    for (Instruction& instruction : program.instructions) {
      instruction.scratch_bytes = 64;
      instruction.scratch_offset = 0;  // the weight's place
    }
  }
  EXPECT_NE(complaint(plan_), "");
}

TEST_F(BrokenPlan, AValueOfTheRunThatIsOverwrittenAtTheEndIsFound) {
  // After its last reader: only the next program would notice.
  for (ProgramPlan& program : plan_.programs) {
    program.instructions.back().scratch_bytes = 64;
    program.instructions.back().scratch_offset = plan_.location("shared.weight").offset + 64;
  }
  EXPECT_THAT(complaint(plan_), HasSubstr("where 'shared.weight' must survive"));
}

TEST(Waits, AreAtMostOneALaneAndNoneOnOneLane) {
  const StepModule plain = random_module(4, 80, false);
  for (const ProgramPlan& program : make_plan(plain, *make_null_kernels(), {}).programs) {
    EXPECT_TRUE(program.waits.empty());
  }
  const StepModule module = random_module(4, 80, true);
  const Plan plan = make_plan(module, *make_null_kernels(), {});
  for (const ProgramPlan& program : plan.programs) {
    EXPECT_FALSE(program.waits.empty());
    for (const Instruction& instruction : program.instructions) {
      std::array<int, kLanes> by_lane{};
      for (const Wait& wait : program.waits_of(instruction)) {
        EXPECT_NE(wait.lane, instruction.lane);
        EXPECT_EQ(++by_lane[static_cast<std::size_t>(wait.lane)], 1);
      }
    }
  }
}

}  // namespace
}  // namespace snug
