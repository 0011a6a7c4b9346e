#include "exec/debug_player.h"

#include <algorithm>
#include <cstring>

namespace snug {
namespace {

constexpr std::byte kPoison{0xff};
constexpr std::byte kFirstGarbage{0xa5};
constexpr std::byte kSecondGarbage{0x5a};

}  // namespace

DebugPlayer::DebugPlayer(const Plan& plan, const Arenas& arenas, DebugOptions options)
    : plan_(plan), arenas_(arenas), options_(options) {
  if (!options.watch_writes) return;
  for (std::size_t space = 0; space < kSpaces; ++space) {
    rules_[space].resize(arena(space).size(), Rule::keep);
    before_[space].resize(arena(space).size());
    first_run_[space].resize(arena(space).size());
  }
}

void DebugPlayer::play(const Sequence& sequence, std::int32_t program, std::span<Operand> operands,
                       FunctionRef<void(const Step&)> run) {
  if (options_.poison_dead) poison_all_but_held(program);
  for (std::size_t i = 0; i < sequence.size(); ++i) {
    const Step step = sequence.step(i, operands);
    if (options_.watch_writes && step.kernel != nullptr) {
      watch(step, program, run);
    } else {
      run(step);
    }
    if (options_.poison_dead) poison_after(step, program);
  }
}

void DebugPlayer::poison(Space space, std::int64_t offset, std::int64_t bytes) {
  std::memset(arenas_[space].data() + offset, static_cast<int>(kPoison),
              static_cast<std::size_t>(bytes));
}

/// Before a program, only shared values that are alive there and the program's inputs hold
/// anything.
void DebugPlayer::poison_all_but_held(std::int32_t program) {
  const ProgramPlan& planned = plan_.program(program);
  std::array<std::vector<bool>, kSpaces> held;
  for (std::size_t space = 0; space < kSpaces; ++space) held[space].resize(arena(space).size());
  const auto hold = [&](Space space, std::int64_t offset, std::int64_t bytes) {
    auto& flags = held[static_cast<std::size_t>(space)];
    std::fill_n(flags.begin() + offset, bytes, true);
  };
  for (const Root& root : plan_.roots) {
    if (root.begin <= planned.start && planned.start <= root.end) {
      hold(root.space, root.offset, root.bytes);
    }
  }
  for (const Storage& storage : planned.storages) {
    if (storage.begin < 0) hold(storage.space, storage.offset, storage.bytes);
  }
  for (std::size_t space = 0; space < kSpaces; ++space) {
    for (std::size_t i = 0; i < held[space].size(); ++i) {
      if (!held[space][i]) arena(space)[i] = kPoison;
    }
  }
}

void DebugPlayer::poison_after(const Step& step, std::int32_t program) {
  const ProgramPlan& planned = plan_.program(program);
  for (const Storage& storage : planned.storages) {
    if (storage.end == step.index) poison(storage.space, storage.offset, storage.bytes);
  }
  for (const Root& root : plan_.roots) {
    if (root.end == planned.start + 1 + step.index) poison(root.space, root.offset, root.bytes);
  }
  std::fill(step.scratch.begin(), step.scratch.end(), kPoison);
}

void DebugPlayer::watch(const Step& step, std::int32_t program,
                        FunctionRef<void(const Step&)> run) {
  set_rules(step, program);
  copy_from_arenas(before_);
  fill(Rule::write, kFirstGarbage);
  fill(Rule::scratch, kFirstGarbage);
  run(step);
  copy_from_arenas(first_run_);
  restore(before_);
  fill(Rule::write, kSecondGarbage);
  fill(Rule::scratch, kSecondGarbage);
  run(step);
  compare(step, program);
}

void DebugPlayer::set_rules(const Step& step, std::int32_t program) {
  for (std::vector<Rule>& rules : rules_) std::fill(rules.begin(), rules.end(), Rule::keep);
  const ProgramPlan& planned = plan_.program(program);
  const Instruction& instruction = planned.instructions[static_cast<std::size_t>(step.index)];
  const auto inputs = planned.inputs(instruction);
  const auto outputs = planned.outputs(instruction);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    mark(step.outputs[i], outputs[i].space, Rule::write);
  }
  // Bytes that are an input too are updated: what they held before counts.
  Rules written = rules_;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    mark(step.inputs[i], inputs[i].space, Rule::update);
  }
  for (std::size_t space = 0; space < kSpaces; ++space) {
    for (std::size_t b = 0; b < rules_[space].size(); ++b) {
      if (written[space][b] == Rule::keep) rules_[space][b] = Rule::keep;
    }
  }
  if (step.scratch.empty()) return;
  auto& device = rules_[static_cast<std::size_t>(Space::device)];
  std::fill_n(device.begin() + instruction.scratch_offset, step.scratch.size(), Rule::scratch);
}

void DebugPlayer::mark(const Operand& operand, Space space, Rule rule) {
  if (operand.data == nullptr) return;
  const TensorType& type = operand.layout.type;
  const std::int64_t rows = type.shape.rank() == 0 ? 1 : type.shape[0];
  if (rows == 0) return;
  const std::int64_t row_bytes = type.bytes() / rows;
  const std::int64_t stride = operand.layout.row_stride * size_of(type.dtype);
  auto& rules = rules_[static_cast<std::size_t>(space)];
  const std::ptrdiff_t offset = operand.data - arenas_[space].data();
  for (std::int64_t row = 0; row < rows; ++row) {
    std::fill_n(rules.begin() + offset + row * stride, row_bytes, rule);
  }
}

void DebugPlayer::fill(Rule rule, std::byte with) {
  for (std::size_t space = 0; space < kSpaces; ++space) {
    for (std::size_t b = 0; b < rules_[space].size(); ++b) {
      if (rules_[space][b] == rule) arena(space)[b] = with;
    }
  }
}

void DebugPlayer::copy_from_arenas(Bytes& to) const {
  for (std::size_t space = 0; space < kSpaces; ++space) {
    std::copy(arena(space).begin(), arena(space).end(), to[space].begin());
  }
}

void DebugPlayer::restore(const Bytes& from) const {
  for (std::size_t space = 0; space < kSpaces; ++space) {
    std::copy(from[space].begin(), from[space].end(), arena(space).begin());
  }
}

void DebugPlayer::compare(const Step& step, std::int32_t program) const {
  const std::string& name = plan_.module->programs[static_cast<std::size_t>(program)].name;
  for (std::size_t space = 0; space < kSpaces; ++space) {
    for (std::size_t b = 0; b < rules_[space].size(); ++b) {
      const Rule rule = rules_[space][b];
      const std::byte first = first_run_[space][b];
      const std::byte second = arena(space)[b];
      if (rule == Rule::scratch) continue;
      const std::byte before = before_[space][b];
      check(rule != Rule::keep || (first == before && second == before),
            "program '{}': instruction {} ({}) writes byte {} of the {} arena, outside its outputs",
            name, step.index, step.kernel->name, b, name_of(static_cast<Space>(space)));
      check(rule != Rule::write || first != kFirstGarbage || second != kSecondGarbage,
            "program '{}': instruction {} ({}) leaves byte {} of its outputs unwritten", name,
            step.index, step.kernel->name, b);
      check(first == second,
            "program '{}': instruction {} ({}) depends on what byte {} of its outputs or its "
            "scratch held before",
            name, step.index, step.kernel->name, b);
    }
  }
}

}  // namespace snug
