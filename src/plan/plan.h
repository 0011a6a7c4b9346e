#pragma once
// A module laid out in memory: every instruction with its kernel, addresses and waits.

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/program.h"
#include "plan/kernel_choice.h"
#include "plan/target.h"

namespace snug {

inline constexpr std::size_t kSpaces = 3;
inline constexpr std::size_t kLanes = 5;

/// Where an operand starts. Its type and strides are those of the graph's value.
struct PlannedOperand {
  std::int64_t offset = 0;   ///< bytes into the arena of `space`
  ValueId value = kNoValue;  ///< kNoValue: absent, or a token
  Space space = Space::device;
};

/// "Not before that instruction of another lane has finished."
struct Wait {
  Lane lane = Lane::compute;
  std::int32_t instruction = -1;
};

/// Instruction i of a program runs node i of its graph. Lanes run side by side, each in list order.
struct Instruction {
  std::int32_t choice = -1;        ///< index into Plan::choices; -1: nothing runs (a view, a wait)
  std::int32_t first_operand = 0;  ///< inputs, then outputs
  std::int32_t inputs = 0;
  std::int32_t outputs = 0;
  std::int32_t first_wait = 0;
  std::int32_t waits = 0;
  std::int64_t scratch_offset = 0;  ///< in the device arena
  std::int64_t scratch_bytes = 0;   ///< the kernel's grant
  Lane lane = Lane::compute;
};

/// Storage that belongs to one program.
struct Storage {
  ValueId root = kNoValue;
  std::int64_t offset = 0;
  std::int64_t bytes = 0;  ///< unaligned
  std::int32_t begin = 0;  ///< node index; -1: filled before the program starts
  std::int32_t end = 0;    ///< node index; node count: read after the program ends
  Space space = Space::device;
};

/// Storage that outlives a program; programs share it by name.
struct Root {
  std::string name;
  TensorType type;
  Space space = Space::device;
  Scope scope = Scope::run;
  Role role = Role::weight;
  int layer = -1;
  std::int64_t offset = 0;
  std::int64_t bytes = 0;  ///< unaligned
  std::int32_t begin = 0;  ///< instants of the plan's one timeline, both included
  std::int32_t end = 0;
};

struct ProgramPlan {
  std::vector<Instruction> instructions;
  std::vector<PlannedOperand> operands;
  std::vector<Wait> waits;
  std::vector<Storage> storages;
  /// For each value: index into `storages`, or -2 - index into Plan::roots, or -1: none.
  std::vector<std::int32_t> storage_of;
  /// Instant of the timeline before the first node; node i runs at instant start + 1 + i.
  std::int32_t start = 0;

  std::span<const PlannedOperand> inputs(const Instruction& instruction) const {
    return std::span(operands).subspan(static_cast<std::size_t>(instruction.first_operand),
                                       static_cast<std::size_t>(instruction.inputs));
  }
  std::span<const PlannedOperand> outputs(const Instruction& instruction) const {
    return std::span(operands)
        .subspan(static_cast<std::size_t>(instruction.first_operand))
        .subspan(static_cast<std::size_t>(instruction.inputs),
                 static_cast<std::size_t>(instruction.outputs));
  }
  std::span<const Wait> waits_of(const Instruction& instruction) const {
    return std::span(waits).subspan(static_cast<std::size_t>(instruction.first_wait),
                                    static_cast<std::size_t>(instruction.waits));
  }
};

struct ArenaPlan {
  std::int64_t bytes = 0;        ///< highest address used: the size to reserve
  std::int64_t lower_bound = 0;  ///< most bytes alive at one instant
  std::int64_t run_bytes = 0;    ///< run-scoped values, packed at the bottom
  std::string_view order;        ///< of the placement (placement.h)
};

/// A named value's place.
struct Location {
  Space space = Space::device;
  std::int64_t offset = 0;
  OperandLayout layout;
};

struct Plan {
  const StepModule* module = nullptr;  ///< what was planned; must outlive the plan
  Target target;
  std::array<ArenaPlan, kSpaces> arenas;
  std::vector<Root> roots;
  std::map<std::string, std::int32_t, std::less<>> root_by_name;
  std::vector<ProgramPlan> programs;
  std::vector<KernelChoice> choices;

  const ArenaPlan& arena(Space space) const { return arenas[static_cast<std::size_t>(space)]; }
  const Graph& graph(std::int32_t program) const {
    return module->programs[static_cast<std::size_t>(program)].graph;
  }
  const ProgramPlan& program(std::int32_t index) const {
    return programs[static_cast<std::size_t>(index)];
  }
  /// Index of the program of that name; InternalError when there is none.
  std::int32_t program_index(std::string_view name) const;

  /// Where the run-, step- or session-scoped value of that name lies; InternalError when there is
  /// none.
  Location location(std::string_view name) const;
  bool has_location(std::string_view name) const { return root_by_name.contains(name); }
  /// Where a program's input or output lies: what is written before, or read after, it is played.
  Location location(std::int32_t program, std::string_view name) const;
  /// Whether the program has an input or output of that name that something uses.
  bool has_location(std::int32_t program, std::string_view name) const;
  /// Where any value of a program lies while it is alive.
  Location location(std::int32_t program, ValueId id) const;
};

/// Chooses kernels, places every value and grant, and computes the waits. Programs of a step hold
/// the step's values from the first to the last that touches them; programs outside the step do
/// not. The result has passed verify_plan. `module` and `source` must outlive the plan.
Plan make_plan(const StepModule& module, const KernelSource& source, const Target& target);

/// Bytes between the first and the last byte of a value, both included.
std::int64_t extent_bytes(const OperandLayout& layout);

}  // namespace snug
