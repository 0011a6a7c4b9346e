#include "exec/sequence.h"

#include <algorithm>

#include "plan/placement.h"

namespace snug {
namespace {

/// Raises `highest` to the end of `bytes` bytes at `begin`, in the arena they lie in.
void measure(const std::byte* begin, std::int64_t bytes, const Arenas& arenas, const Target& target,
             std::array<std::int64_t, kSpaces>& highest) {
  for (std::size_t s = 0; s < kSpaces; ++s) {
    const Arena& arena = arenas.spaces[s];
    if (arena.data() == nullptr || begin < arena.data()) continue;
    const std::int64_t end = begin - arena.data() + bytes;
    if (end > arena.bytes()) continue;
    highest[s] = std::max(highest[s], align_up(end, target.alignment(static_cast<Space>(s))));
    return;
  }
  internal_error("{} bytes are handed to a kernel that lie in no arena", bytes);
}

/// What the kernel is handed, not what was planned for it.
void measure(Step& step, const Arenas& arenas, const Target& target) {
  for (const auto& operands : {step.inputs, step.outputs}) {
    for (const Operand& operand : operands) {
      if (operand.data == nullptr) continue;
      measure(operand.data, extent_bytes(operand.layout), arenas, target, step.highest);
    }
  }
  if (step.scratch.empty()) return;
  measure(step.scratch.data(), static_cast<std::int64_t>(step.scratch.size()), arenas, target,
          step.highest);
}

}  // namespace

PreparedChoices prepare_choices(const Plan& plan) {
  PreparedChoices prepared;
  prepared.reserve(plan.choices.size());
  for (const KernelChoice& choice : plan.choices) {
    prepared.emplace_back();
    if (choice.kernel->prepare == nullptr) continue;
    const Graph& graph = plan.graph(choice.program);
    const NodeQuery query(graph, graph.nodes[static_cast<std::size_t>(choice.node)], plan.target);
    prepared.back() = choice.kernel->prepare(query);
  }
  return prepared;
}

Sequence::Sequence(const Plan& plan, std::int32_t program, const Arenas& arenas,
                   const PreparedChoices& prepared) {
  const ProgramPlan& planned = plan.program(program);
  const Graph& graph = plan.graph(program);
  operands_.reserve(planned.operands.size());
  for (const PlannedOperand& operand : planned.operands) {
    Operand real;
    real.layout = layout_of(graph, operand.value);
    if (exists(operand.value)) real.data = arenas[operand.space].data() + operand.offset;
    operands_.push_back(real);
  }
  for (std::size_t i = 0; i < planned.instructions.size(); ++i) {
    const Instruction& instruction = planned.instructions[i];
    if (instruction.choice < 0 && instruction.waits == 0) continue;
    const Node& node = graph.nodes[i];
    Step step;
    step.waits = planned.waits_of(instruction);
    step.index = static_cast<std::int32_t>(i);
    step.op = node.op;
    step.phase = node.phase;
    step.lane = instruction.lane;
    if (instruction.choice >= 0) {
      const auto choice = static_cast<std::size_t>(instruction.choice);
      const std::span<const Operand> all(operands_);
      const auto first = static_cast<std::size_t>(instruction.first_operand);
      const auto inputs = static_cast<std::size_t>(instruction.inputs);
      step.kernel = plan.choices[choice].kernel;
      step.attributes = &node.attributes;
      step.prepared = prepared[choice].get();
      step.inputs = all.subspan(first, inputs);
      step.outputs = all.subspan(first + inputs, static_cast<std::size_t>(instruction.outputs));
      if (instruction.scratch_bytes > 0) {
        step.scratch = {arenas[Space::device].data() + instruction.scratch_offset,
                        static_cast<std::size_t>(instruction.scratch_bytes)};
      }
      measure(step, arenas, plan.target);
    }
    lanes_[static_cast<std::size_t>(step.lane)].push_back(static_cast<std::int32_t>(steps_.size()));
    compute_only_ = compute_only_ && step.lane == Lane::compute;
    steps_.push_back(step);
  }
}

}  // namespace snug
