#include "exec/device_player.h"

#include <algorithm>

#include "core/error.h"

namespace snug {
namespace {

constexpr std::size_t kLaneCount = kLanes;

}  // namespace

DevicePlayer::DevicePlayer(const Plan& plan, const Sequences& sequences, Device& device,
                           DevicePlayerOptions options)
    : plan_(plan), sequences_(sequences), device_(device), options_(options) {
  for (std::size_t p = 0; p < sequences.size(); ++p) {
    marks_.push_back(marks_of(static_cast<std::int32_t>(p)));
    for (const std::int32_t event : marks_.back().recorded) fork_ = std::max(fork_, event + 1);
  }
  device_.reserve_events(fork_ + static_cast<std::int32_t>(kLaneCount));
}

DevicePlayer::Marks DevicePlayer::marks_of(std::int32_t program) const {
  const Sequence& sequence = sequences_[static_cast<std::size_t>(program)];
  Marks marks;
  const std::size_t count = plan_.program(program).instructions.size();
  marks.recorded.assign(count, -1);
  marks.waited_for.assign(count, -1);
  std::int32_t next = 0;
  for (std::size_t i = 0; i < sequence.size(); ++i) {
    for (const Wait& wait : sequence.waits(i)) {
      // What runs nothing is no step: then the lane's last step before it is waited for.
      const auto lane = sequence.lane(wait.lane);
      const auto behind = std::upper_bound(
          lane.begin(), lane.end(), wait.instruction,
          [&](std::int32_t instruction, std::int32_t index) {
            return instruction < sequence.instruction(static_cast<std::size_t>(index));
          });
      if (behind == lane.begin()) continue;
      const std::int32_t last = sequence.instruction(static_cast<std::size_t>(*(behind - 1)));
      std::int32_t& event = marks.recorded[static_cast<std::size_t>(last)];
      if (event < 0) event = next++;
      marks.waited_for[static_cast<std::size_t>(wait.instruction)] = event;
    }
  }
  for (std::size_t lane = 1; lane < kLaneCount; ++lane) {
    if (!sequence.lane(static_cast<Lane>(lane)).empty()) {
      marks.lanes.push_back(static_cast<Lane>(lane));
    }
  }
  return marks;
}

void DevicePlayer::play(std::int32_t program, std::span<Operand> operands,
                        FunctionRef<void(const Step&, void* queue)> run) {
  Marks& marks = marks_[static_cast<std::size_t>(program)];
  const bool replays = options_.replay && !options_.one_by_one;
  try {
    if (marks.recording >= 0) {
      device_.replay(marks.recording);
    } else if (replays && marks.plays > 0) {
      device_.begin_recording();
      give(program, operands, run);
      marks.recording = device_.end_recording();
      device_.replay(marks.recording);
    } else {
      give(program, operands, run);
    }
    device_.finish();
  } catch (const DeviceError& error) {
    throw DeviceError(fmt::format("program '{}': {}", plan_.graph(program).name(), error.what()));
  }
  ++marks.plays;
}

/// The other lanes start where the compute lane is now; in the end it waits for them.
void DevicePlayer::give(std::int32_t program, std::span<Operand> operands,
                        FunctionRef<void(const Step&, void* queue)> run) {
  const Marks& marks = marks_[static_cast<std::size_t>(program)];
  if (!marks.lanes.empty()) device_.record(Lane::compute, fork_);
  for (const Lane lane : marks.lanes) device_.wait(lane, fork_);
  const Sequence& sequence = sequences_[static_cast<std::size_t>(program)];
  for (std::size_t i = 0; i < sequence.size(); ++i) {
    const Step step = sequence.step(i, operands);
    for (const Wait& wait : step.waits) {
      const std::int32_t event = marks.waited_for[static_cast<std::size_t>(wait.instruction)];
      if (event >= 0) device_.wait(step.lane, event);
    }
    run_step(program, step, run);
    const std::int32_t event = marks.recorded[static_cast<std::size_t>(step.index)];
    if (event >= 0) device_.record(step.lane, event);
  }
  for (const Lane lane : marks.lanes) {
    const std::int32_t end = fork_ + static_cast<std::int32_t>(lane);
    device_.record(lane, end);
    device_.wait(Lane::compute, end);
  }
}

void DevicePlayer::run_step(std::int32_t program, const Step& step,
                            FunctionRef<void(const Step&, void* queue)> run) {
  try {
    run(step, device_.queue(step.lane));
    if (options_.one_by_one) device_.finish();
  } catch (const DeviceError& error) {
    throw DeviceError(fmt::format("{}: {}", describe(program, step), error.what()));
  }
}

std::string DevicePlayer::describe(std::int32_t program, const Step& step) const {
  const Graph& graph = plan_.graph(program);
  const Node& node = graph.nodes[static_cast<std::size_t>(step.index)];
  const ProgramPlan& planned = plan_.program(program);
  const Instruction& instruction = planned.instructions[static_cast<std::size_t>(step.index)];
  std::string text = fmt::format("instruction {} ({})", step.index,
                                 step.kernel == nullptr ? "wait" : step.kernel->name);
  const auto add = [&](std::string_view what, std::span<const PlannedOperand> operands) {
    for (const PlannedOperand& operand : operands) {
      if (!exists(operand.value)) continue;
      text += fmt::format(", {} '{}' {} at byte {} of {}", what, graph.value(operand.value).name,
                          graph.value(operand.value).type.to_string(), operand.offset,
                          name_of(operand.space));
      what = "";
    }
  };
  add("reads", planned.inputs(instruction));
  add("writes", planned.outputs(instruction));
  if (instruction.scratch_bytes > 0) {
    text += fmt::format(", scratch {} bytes at {}", instruction.scratch_bytes,
                        instruction.scratch_offset);
  }
  return text + (node.layer >= 0 ? fmt::format(", layer {}", node.layer) : "");
}

}  // namespace snug
