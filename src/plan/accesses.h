#pragma once
// The ranges of addresses that an instruction reads and writes.

#include <cstdint>
#include <limits>
#include <vector>

#include "plan/plan.h"

namespace snug {

/// Owner of scratch; other owners are ProgramPlan::storage_of's numbers.
inline constexpr std::int32_t kScratchOwner = std::numeric_limits<std::int32_t>::min();

struct Access {
  Space space = Space::device;
  std::int64_t low = 0;   ///< of a strided operand: its first byte,
  std::int64_t high = 0;  ///< and the one after its last
  bool writes = false;
  std::int32_t owner = -1;
};

/// Replaces `accesses`' contents: reads first, then writes.
void accesses_of(const Graph& graph, const ProgramPlan& program, const Instruction& instruction,
                 std::vector<Access>& accesses);

}  // namespace snug
