#include "plan/playable.h"

#include <utility>

namespace snug {
namespace {

bool is_port(Role role) {
  return role == Role::input || role == Role::scalar || role == Role::metric;
}

/// Adds a program with its ports alone, each in storage of its own where the plan has it.
void add_program(const Plan& plan, std::int32_t index, StepModule& module, Plan& reduced) {
  const Graph& graph = plan.graph(index);
  Graph ports(graph.name());
  ProgramPlan program;
  program.start = plan.program(index).start;
  for (std::int32_t v = 0; v < graph.value_count(); ++v) {
    const auto id = static_cast<ValueId>(v);
    const Value& value = graph.value(id);
    if (!is_port(value.role) || !plan.has_location(index, value.name)) continue;
    const Location place = plan.location(index, id);
    Value port = value;
    port.base = kNoValue;
    port.offset = 0;
    port.row_stride = place.layout.row_stride;
    const ValueId kept = ports.add_value(std::move(port));
    program.storage_of.push_back(static_cast<std::int32_t>(program.storages.size()));
    program.storages.push_back(
        {kept, place.offset, extent_bytes(place.layout), -1, 0, place.space});
  }
  module.programs.push_back(
      {plan.module->programs[static_cast<std::size_t>(index)].name, std::move(ports)});
  reduced.programs.push_back(std::move(program));
}

}  // namespace

Recipe playable(const Recipe& recipe) {
  Recipe copy;
  copy.settings = recipe.settings;
  copy.rows_per_step = recipe.rows_per_step;
  copy.micro_rows = recipe.micro_rows;
  copy.accumulation = recipe.accumulation;
  copy.estimated_seconds = recipe.estimated_seconds;
  copy.outside = recipe.outside;
  copy.planning_bytes = recipe.planning_bytes;
  copy.needed_bytes = recipe.needed_bytes;
  copy.fits = recipe.fits;
  copy.module = std::make_unique<StepModule>();
  copy.module->script = recipe.module->script;
  copy.module->parameters = recipe.module->parameters;
  copy.plan.module = copy.module.get();
  copy.plan.target = recipe.plan.target;
  copy.plan.arenas = recipe.plan.arenas;
  copy.plan.roots = recipe.plan.roots;
  copy.plan.root_by_name = recipe.plan.root_by_name;
  for (std::size_t p = 0; p < recipe.plan.programs.size(); ++p) {
    add_program(recipe.plan, static_cast<std::int32_t>(p), *copy.module, copy.plan);
  }
  return copy;
}

}  // namespace snug
