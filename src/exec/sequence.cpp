#include "exec/sequence.h"

#include <algorithm>
#include <functional>
#include <unordered_map>

#include "plan/accesses.h"
#include "plan/outside.h"
#include "plan/placement.h"

namespace snug {
namespace {

/// Raises `highest` to the end of `bytes` bytes at `begin`, in the arena they lie in.
void measure(const std::byte* begin, std::int64_t bytes, const Arenas& arenas,
             const std::array<std::int64_t, kSpaces>& alignment,
             std::array<std::int64_t, kSpaces>& highest) {
  for (std::size_t s = 0; s < kSpaces; ++s) {
    const Arena& arena = arenas.spaces[s];
    if (arena.data() == nullptr || begin < arena.data()) continue;
    const std::int64_t end = begin - arena.data() + bytes;
    if (end > arena.bytes()) continue;
    highest[s] = std::max(highest[s], align_up(end, alignment[s]));
    return;
  }
  internal_error("{} bytes are handed to a kernel that lie in no arena", bytes);
}

std::vector<std::unique_ptr<Prepared>> prepare_choices(const Plan& plan) {
  std::vector<std::unique_ptr<Prepared>> prepared;
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

void mix(std::size_t& hash, std::size_t value) { hash = (hash ^ value) * 0x100000001b3ULL; }

std::size_t hash_of(const OperandLayout& layout) {
  std::size_t hash = static_cast<std::size_t>(layout.type.dtype);
  for (const std::int64_t dim : layout.type.shape.dims()) mix(hash, static_cast<std::size_t>(dim));
  mix(hash, static_cast<std::size_t>(layout.row_stride));
  mix(hash, layout.present ? 1 : 0);
  return hash;
}

std::size_t hash_of(const Attributes& attributes) {
  std::size_t hash = 0;
  for (const auto& [key, value] : attributes.items()) {
    mix(hash, std::hash<std::string>()(key));
    mix(hash, std::hash<AttributeValue>()(value));
  }
  return hash;
}

}  // namespace

/// Fills the sequences of one plan, which share their parts.
class SequenceBuilder {
 public:
  SequenceBuilder(const Plan& plan, SequenceParts& parts) : plan_(plan), parts_(parts) {
    parts_.prepared = prepare_choices(plan);
    for (std::size_t s = 0; s < kSpaces; ++s) {
      parts_.alignment[s] = plan.target.alignment(static_cast<Space>(s));
    }
  }

  Sequence build(std::int32_t program) {
    const ProgramPlan& planned = plan_.program(program);
    const Graph& graph = plan_.graph(program);
    Sequence sequence;
    sequence.parts_ = &parts_;
    sequence.waits_ = planned.waits;
    for (std::size_t i = 0; i < planned.instructions.size(); ++i) {
      const Instruction& instruction = planned.instructions[i];
      if (instruction.choice < 0 && instruction.waits == 0) continue;
      add(sequence, graph, planned, static_cast<std::int32_t>(i));
    }
    sequence.operands_.shrink_to_fit();
    sequence.steps_.shrink_to_fit();
    for (std::vector<std::int32_t>& lane : sequence.lanes_) lane.shrink_to_fit();
    return sequence;
  }

  std::size_t most_operands() const { return most_operands_; }

 private:
  static_assert(sizeof(Sequence::StoredStep) + sizeof(std::int32_t) <= kStepBytes);
  static_assert(sizeof(Sequence::StoredOperand) <= kOperandBytes);

  void add(Sequence& sequence, const Graph& graph, const ProgramPlan& planned, std::int32_t index) {
    const Instruction& instruction = planned.instructions[static_cast<std::size_t>(index)];
    const Node& node = graph.nodes[static_cast<std::size_t>(index)];
    Sequence::StoredStep step;
    step.first_wait = static_cast<std::uint32_t>(instruction.first_wait);
    step.waits = instruction.waits;
    step.index = index;
    step.op = node.op;
    step.phase = node.phase;
    step.lane = instruction.lane;
    if (instruction.choice >= 0) {
      const auto choice = static_cast<std::size_t>(instruction.choice);
      step.kernel = plan_.choices[choice].kernel;
      step.attributes = shared(node.attributes);
      step.prepared = parts_.prepared[choice].get();
      step.first_operand = static_cast<std::uint32_t>(sequence.operands_.size());
      step.inputs = instruction.inputs;
      step.outputs = instruction.outputs;
      for (const auto& operands : {planned.inputs(instruction), planned.outputs(instruction)}) {
        for (const PlannedOperand& operand : operands) add(sequence, graph, operand);
      }
      most_operands_ = std::max(most_operands_,
                                static_cast<std::size_t>(instruction.inputs + instruction.outputs));
      step.scratch_offset = instruction.scratch_offset;
      step.scratch_bytes = instruction.scratch_bytes;
      accesses_of(graph, planned, instruction, accesses_);
      for (const Access& access : accesses_) {
        const auto space = static_cast<std::size_t>(access.space);
        const std::int64_t high = align_up(access.high, plan_.target.alignment(access.space));
        sequence.highest_[space] = std::max(sequence.highest_[space], high);
      }
    }
    sequence.lanes_[static_cast<std::size_t>(step.lane)].push_back(
        static_cast<std::int32_t>(sequence.steps_.size()));
    sequence.compute_only_ = sequence.compute_only_ && step.lane == Lane::compute;
    sequence.steps_.push_back(step);
  }

  void add(Sequence& sequence, const Graph& graph, const PlannedOperand& operand) {
    sequence.operands_.push_back({exists(operand.value) ? operand.offset : -1,
                                  shared(layout_of(graph, operand.value)), operand.space});
  }

  std::uint32_t shared(const OperandLayout& layout) {
    const std::size_t hash = hash_of(layout);
    const auto [begin, end] = layouts_.equal_range(hash);
    for (auto known = begin; known != end; ++known) {
      if (parts_.layouts[known->second] == layout) return known->second;
    }
    const auto fresh = static_cast<std::uint32_t>(parts_.layouts.size());
    parts_.layouts.push_back(layout);
    layouts_.emplace(hash, fresh);
    return fresh;
  }

  const Attributes* shared(const Attributes& attributes) {
    const std::size_t hash = hash_of(attributes);
    const auto [begin, end] = attributes_.equal_range(hash);
    for (auto known = begin; known != end; ++known) {
      if (*known->second == attributes) return known->second;
    }
    parts_.attributes.push_back(std::make_unique<const Attributes>(attributes));
    attributes_.emplace(hash, parts_.attributes.back().get());
    return parts_.attributes.back().get();
  }

  const Plan& plan_;
  SequenceParts& parts_;
  std::unordered_multimap<std::size_t, std::uint32_t> layouts_;
  std::unordered_multimap<std::size_t, const Attributes*> attributes_;
  std::vector<Access> accesses_;
  std::size_t most_operands_ = 0;
};

Step Sequence::step(std::size_t index, std::span<Operand> operands) const {
  const StoredStep& stored = steps_[index];
  const auto inputs = static_cast<std::size_t>(stored.inputs);
  const auto count = inputs + static_cast<std::size_t>(stored.outputs);
  for (std::size_t i = 0; i < count; ++i) {
    const StoredOperand& from = operands_[stored.first_operand + i];
    std::byte* const arena = parts_->arenas[static_cast<std::size_t>(from.space)];
    operands[i] = {from.offset < 0 ? nullptr : arena + from.offset, parts_->layouts[from.layout]};
  }
  Step step;
  step.kernel = stored.kernel;
  step.attributes = stored.attributes;
  step.prepared = stored.prepared;
  step.inputs = operands.first(inputs);
  step.outputs = operands.subspan(inputs, count - inputs);
  if (stored.scratch_bytes > 0) {
    step.scratch = {parts_->arenas[static_cast<std::size_t>(Space::device)] + stored.scratch_offset,
                    static_cast<std::size_t>(stored.scratch_bytes)};
  }
  step.waits = waits(index);
  step.highest = stored.highest;
  step.index = stored.index;
  step.op = stored.op;
  step.phase = stored.phase;
  step.lane = stored.lane;
  return step;
}

void Sequence::measure(const Arenas& arenas, std::span<Operand> operands) {
  const auto& alignment = parts_->alignment;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const Step handed = step(i, operands);
    auto& highest = steps_[i].highest;
    for (const auto& list : {handed.inputs, handed.outputs}) {
      for (const Operand& operand : list) {
        if (operand.data == nullptr) continue;
        snug::measure(operand.data, extent_bytes(operand.layout), arenas, alignment, highest);
      }
    }
    if (handed.scratch.empty()) continue;
    snug::measure(handed.scratch.data(), static_cast<std::int64_t>(handed.scratch.size()), arenas,
                  alignment, highest);
  }
}

std::span<const Wait> Sequence::waits(std::size_t index) const {
  const StoredStep& stored = steps_[index];
  return std::span(waits_).subspan(stored.first_wait, static_cast<std::size_t>(stored.waits));
}

Sequences::Sequences(const Plan& plan) : parts_(std::make_unique<SequenceParts>()) {
  SequenceBuilder builder(plan, *parts_);
  programs_.reserve(plan.programs.size());
  for (std::size_t p = 0; p < plan.programs.size(); ++p) {
    programs_.push_back(builder.build(static_cast<std::int32_t>(p)));
  }
  most_operands_ = builder.most_operands();
}

void Sequences::set_arenas(const Arenas& arenas) {
  for (std::size_t space = 0; space < kSpaces; ++space) {
    parts_->arenas[space] = arenas.spaces[space].data();
  }
  std::vector<Operand> operands(most_operands_);
  for (Sequence& sequence : programs_) sequence.measure(arenas, operands);
}

}  // namespace snug
