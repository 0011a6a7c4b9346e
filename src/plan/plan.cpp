#include "plan/plan.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "ir/storage_roots.h"
#include "plan/placement.h"
#include "plan/timeline.h"
#include "plan/verify_plan.h"
#include "plan/waits.h"

namespace snug {
namespace {

std::size_t at(ValueId id) { return static_cast<std::size_t>(id); }

constexpr std::array<Space, kSpaces> kAllSpaces = {Space::device, Space::host, Space::disk};

class Planner {
 public:
  Planner(const StepModule& module, const KernelSource& source, const Target& target)
      : module_(module), chooser_(module, source, target) {
    plan_.module = &module;
    plan_.target = target;
  }

  Plan run() {
    for (const Program& program : module_.programs)
      live_.push_back(analyse_liveness(program.graph));
    timeline_.emplace(module_, live_);
    plan_.programs.resize(module_.programs.size());
    for (std::size_t p = 0; p < plan_.programs.size(); ++p) plan_program(p);
    plan_.choices = chooser_.take();
    for (const Space space : kAllSpaces) place_space(space);
    for (std::size_t p = 0; p < plan_.programs.size(); ++p) {
      set_operand_offsets(p);
      compute_waits(module_.programs[p].graph, plan_.programs[p]);
    }
    verify_plan(plan_);
    return std::move(plan_);
  }

 private:
  void plan_program(std::size_t p) {
    const Graph& graph = module_.programs[p].graph;
    ProgramPlan& program = plan_.programs[p];
    program.start = timeline_->start(p);
    add_storages(p);
    program.instructions.reserve(graph.nodes.size());
    for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
      const Node& node = graph.nodes[n];
      Instruction instruction;
      instruction.lane = node.lane;
      if (needs_kernel(graph, node)) {
        instruction.choice =
            chooser_.choose(static_cast<std::int32_t>(p), static_cast<std::int32_t>(n));
        instruction.scratch_bytes = chooser_.grant(instruction.choice);
      }
      if (instruction.choice >= 0 || node.op == Op::copy_wait)
        add_operands(program, node, instruction);
      program.instructions.push_back(instruction);
    }
  }

  static void add_operands(ProgramPlan& program, const Node& node, Instruction& instruction) {
    instruction.first_operand = static_cast<std::int32_t>(program.operands.size());
    instruction.inputs = static_cast<std::int32_t>(node.inputs.size());
    instruction.outputs = static_cast<std::int32_t>(node.outputs.size());
    for (const auto* operands : {&node.inputs, &node.outputs}) {
      for (const ValueId id : *operands) program.operands.push_back({0, id, Space::device});
    }
  }

  void add_storages(std::size_t p) {
    const Graph& graph = module_.programs[p].graph;
    ProgramPlan& program = plan_.programs[p];
    const Liveness& live = live_[p];
    const std::vector<Touch> touched = touches(graph, live);
    std::vector<std::int32_t> storage_of(live.intervals.size(), -1);
    for (std::size_t i = 0; i < live.intervals.size(); ++i) {
      const StorageInterval& interval = live.intervals[i];
      if (graph.value(interval.root).role == Role::token) continue;
      if (timeline_->outlives(p, interval.scope)) {
        storage_of[i] = -2 - add_root(p, interval, touched[i]);
        continue;
      }
      storage_of[i] = static_cast<std::int32_t>(program.storages.size());
      const bool call = interval.scope == Scope::call;
      program.storages.push_back({interval.root, 0, interval.bytes,
                                  call ? interval.begin : touched[i].first,
                                  call ? interval.end : touched[i].last, interval.space});
    }
    program.storage_of.reserve(live.interval_of.size());
    for (const std::int32_t interval : live.interval_of) {
      program.storage_of.push_back(interval < 0 ? -1
                                                : storage_of[static_cast<std::size_t>(interval)]);
    }
  }

  /// The root of that name, held long enough for this program too.
  std::int32_t add_root(std::size_t p, const StorageInterval& interval, const Touch& touch) {
    const Value& value = module_.programs[p].graph.value(interval.root);
    const auto fresh = static_cast<std::int32_t>(plan_.roots.size());
    const auto [it, added] = plan_.root_by_name.emplace(value.name, fresh);
    if (added) {
      plan_.roots.push_back({value.name, value.type, interval.space, interval.scope, value.role,
                             value.layer, 0, interval.bytes,
                             std::numeric_limits<std::int32_t>::max(), -1});
    }
    Root& root = plan_.roots[static_cast<std::size_t>(it->second)];
    check(root.scope == interval.scope && root.space == interval.space &&
              root.bytes == interval.bytes,
          "'{}' is {} bytes of scope {} in program '{}' and {} bytes of scope {} elsewhere",
          root.name, interval.bytes, name_of(interval.scope), module_.programs[p].name, root.bytes,
          name_of(root.scope));
    const auto [begin, end] = held(p, interval.scope, touch);
    root.begin = std::min(root.begin, begin);
    root.end = std::max(root.end, end);
    return it->second;
  }

  /// The instants a program needs a shared value. Parts lie in a row, so that the hull over all
  /// programs covers every program that may be played in between.
  std::pair<std::int32_t, std::int32_t> held(std::size_t p, Scope scope, const Touch& touch) const {
    if (scope == Scope::run) return {0, timeline_->instants() - 1};
    const Part part = timeline_->part(p);
    if (part == Part::session || part == Part::next) {  // played any number of times
      return {timeline_->part_begin(part), timeline_->part_end(part)};
    }
    return {timeline_->start(p) + 1 + touch.first, timeline_->start(p) + 1 + touch.last};
  }

  /// What of a space is placed together, and where the offsets go.
  struct Movable {
    std::vector<Block> blocks;
    std::vector<std::int64_t*> places;

    void add(std::int32_t begin, std::int32_t end, std::int64_t bytes, std::int64_t& offset) {
      blocks.push_back({begin, end, bytes});
      places.push_back(&offset);
    }
    void set(const Placement& placed) const {
      for (std::size_t i = 0; i < places.size(); ++i) *places[i] = placed.offsets[i];
    }
  };

  /// Values of the run at the bottom; above them what outlives a program; around that, each program
  /// by itself.
  void place_space(Space space) {
    const std::int64_t alignment = plan_.target.alignment(space);
    ArenaPlan& arena = plan_.arenas[static_cast<std::size_t>(space)];
    Movable shared;
    for (Root& root : plan_.roots) {
      if (root.space != space) continue;
      if (root.scope != Scope::run) {
        shared.add(root.begin, root.end, root.bytes, root.offset);
        continue;
      }
      root.offset = arena.run_bytes;
      arena.run_bytes += align_up(root.bytes, alignment);
    }
    const Placement placed = place(shared.blocks, {.alignment = alignment});
    shared.set(placed);
    place_programs(space, arena, placed);
    for (std::int64_t* offset : shared.places) *offset += arena.run_bytes;
    arena.bytes += arena.run_bytes;
    arena.lower_bound += arena.run_bytes;
  }

  /// The one that needs most comes first: what it takes is free to the others. Offsets start above
  /// the run's values.
  void place_programs(Space space, ArenaPlan& arena, const Placement& shared) {
    const std::int64_t alignment = plan_.target.alignment(space);
    std::vector<std::pair<std::int64_t, std::size_t>> by_need;
    for (std::size_t p = 0; p < plan_.programs.size(); ++p) {
      const std::vector<FixedBlock> fixed = held_roots(p, space);
      const Movable movable = movable_of(p, space);
      by_need.emplace_back(most_alive(movable.blocks, {alignment, fixed}), p);
    }
    std::sort(by_need.begin(), by_need.end(), [](const auto& a, const auto& b) {
      return a.first != b.first ? a.first > b.first : a.second < b.second;
    });
    arena.order = shared.order;
    arena.bytes = shared.peak;
    arena.lower_bound = shared.lower_bound;
    if (!by_need.empty()) {
      arena.lower_bound = std::max(arena.lower_bound, by_need.front().first);
    }
    for (const auto& [need, p] : by_need) {
      const std::vector<FixedBlock> fixed = held_roots(p, space);
      Movable movable = movable_of(p, space);
      const Placement placed = placer_.place(
          movable.blocks, {alignment, fixed, std::max(arena.bytes, arena.lower_bound)});
      if (placed.peak > arena.bytes) {
        arena.bytes = placed.peak;
        arena.order = placed.order;
      }
      movable.set(placed);
      for (std::int64_t* offset : movable.places) *offset += arena.run_bytes;
    }
  }

  /// What outlives a program and lives in it, by the program's own instants.
  std::vector<FixedBlock> held_roots(std::size_t p, Space space) const {
    std::vector<FixedBlock> held;
    const std::int32_t begin = timeline_->start(p);
    const std::int32_t end =
        begin + static_cast<std::int32_t>(plan_.programs[p].instructions.size()) + 1;
    for (const Root& root : plan_.roots) {
      if (root.space != space || root.scope == Scope::run) continue;
      if (root.end < begin || root.begin > end) continue;
      held.push_back(
          {{std::max(root.begin, begin) - begin, std::min(root.end, end) - begin, root.bytes},
           root.offset});
    }
    return held;
  }

  Movable movable_of(std::size_t p, Space space) {
    Movable movable;
    ProgramPlan& program = plan_.programs[p];
    for (Storage& storage : program.storages) {
      if (storage.space != space) continue;
      movable.add(1 + storage.begin, 1 + storage.end, storage.bytes, storage.offset);
    }
    if (space != Space::device) return movable;
    for (std::size_t i = 0; i < program.instructions.size(); ++i) {
      Instruction& instruction = program.instructions[i];
      if (instruction.scratch_bytes == 0) continue;
      const std::int32_t instant = 1 + static_cast<std::int32_t>(i);
      movable.add(instant, instant, instruction.scratch_bytes, instruction.scratch_offset);
    }
    return movable;
  }

  void set_operand_offsets(std::size_t p) {
    ProgramPlan& program = plan_.programs[p];
    const std::vector<std::int64_t> within = storage_offsets(module_.programs[p].graph);
    for (PlannedOperand& operand : program.operands) {
      if (!exists(operand.value)) continue;
      const std::int32_t storage = program.storage_of[at(operand.value)];
      if (storage == -1) {  // a token
        operand.value = kNoValue;
        continue;
      }
      const auto place = [&](Space space, std::int64_t offset) {
        operand.space = space;
        operand.offset = offset + within[at(operand.value)];
      };
      if (storage < 0) {
        const Root& root = plan_.roots[static_cast<std::size_t>(-2 - storage)];
        place(root.space, root.offset);
      } else {
        const Storage& local = program.storages[static_cast<std::size_t>(storage)];
        place(local.space, local.offset);
      }
    }
  }

  const StepModule& module_;
  KernelChooser chooser_;
  std::vector<Liveness> live_;
  Placer placer_;
  std::optional<Timeline> timeline_;
  Plan plan_;
};

}  // namespace

Plan make_plan(const StepModule& module, const KernelSource& source, const Target& target) {
  return Planner(module, source, target).run();
}

std::int64_t extent_bytes(const OperandLayout& layout) {
  const Shape& shape = layout.type.shape;
  const std::int64_t elements = shape.elements();
  if (shape.rank() == 0 || elements == 0) return layout.type.bytes();
  return ((shape[0] - 1) * layout.row_stride + elements / shape[0]) * size_of(layout.type.dtype);
}

std::int32_t Plan::program_index(std::string_view name) const {
  for (std::size_t p = 0; p < module->programs.size(); ++p) {
    if (module->programs[p].name == name) return static_cast<std::int32_t>(p);
  }
  internal_error("the plan has no program '{}'", name);
}

Location Plan::location(std::string_view name) const {
  const auto it = root_by_name.find(name);
  check(it != root_by_name.end(), "the plan has no run-, step- or session-scoped value '{}'", name);
  const Root& root = roots[static_cast<std::size_t>(it->second)];
  const Shape& shape = root.type.shape;
  const std::int64_t row =
      shape.rank() == 0 ? 1 : shape.elements() / std::max<std::int64_t>(1, shape[0]);
  return {root.space, root.offset, {root.type, row, true}};
}

bool Plan::has_location(std::int32_t program_index, std::string_view name) const {
  const Graph& values = graph(program_index);
  const ValueId id = values.find(name);
  if (!exists(id)) return false;
  const ProgramPlan& planned = program(program_index);
  const std::int32_t storage = planned.storage_of[at(id)];
  if (storage < 0) return storage != -1;
  const Storage& place = planned.storages[static_cast<std::size_t>(storage)];
  return place.begin < 0 || place.end == static_cast<std::int32_t>(values.nodes.size());
}

Location Plan::location(std::int32_t program_index, std::string_view name) const {
  const Graph& values = graph(program_index);
  check(has_location(program_index, name), "'{}' is neither an input nor an output of program '{}'",
        name, module->programs[static_cast<std::size_t>(program_index)].name);
  return location(program_index, values.find(name));
}

Location Plan::location(std::int32_t program_index, ValueId id) const {
  const Graph& values = graph(program_index);
  const ProgramPlan& planned = program(program_index);
  const std::int32_t storage = planned.storage_of[at(id)];
  check(storage != -1, "'{}' has no storage", values.value(id).name);
  const std::int64_t within = values.byte_offset(id);
  const OperandLayout layout = layout_of(values, id);
  if (storage < 0) {
    const Root& root = roots[static_cast<std::size_t>(-2 - storage)];
    return {root.space, root.offset + within, layout};
  }
  const Storage& place = planned.storages[static_cast<std::size_t>(storage)];
  return {place.space, place.offset + within, layout};
}

}  // namespace snug
