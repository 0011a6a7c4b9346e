#include "plan/accesses.h"

namespace snug {

void accesses_of(const Graph& graph, const ProgramPlan& program, const Instruction& instruction,
                 std::vector<Access>& accesses) {
  accesses.clear();
  const auto add = [&](const PlannedOperand& operand, bool writes) {
    if (!exists(operand.value)) return;
    const std::int64_t bytes = extent_bytes(layout_of(graph, operand.value));
    accesses.push_back({operand.space, operand.offset, operand.offset + bytes, writes,
                        program.storage_of[static_cast<std::size_t>(operand.value)]});
  };
  for (const PlannedOperand& operand : program.inputs(instruction)) add(operand, false);
  if (instruction.choice < 0) return;  // a wait hands its operand on untouched
  for (const PlannedOperand& operand : program.outputs(instruction)) add(operand, true);
  if (instruction.scratch_bytes > 0) {
    accesses.push_back({Space::device, instruction.scratch_offset,
                        instruction.scratch_offset + instruction.scratch_bytes, true,
                        kScratchOwner});
  }
}

}  // namespace snug
