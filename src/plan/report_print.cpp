// The printers of MemoryReport, and of the chosen kernels.

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "core/text.h"
#include "plan/report.h"

namespace snug {
namespace {

using Json = nlohmann::ordered_json;

Json json_of(const PeakAt& at) {
  return {{"program", at.program},  {"instruction", at.instruction}, {"op", at.op},
          {"value", at.value},      {"phase", name_of(at.phase)},    {"layer", at.layer},
          {"alive_bytes", at.bytes}};
}

Json json_of(const AliveValue& value) {
  return {{"name", value.name},
          {"role", name_of(value.role)},
          {"dtype", name_of(value.dtype)},
          {"layer", value.layer},
          {"bytes", value.bytes}};
}

Json json_by_role(const std::vector<RoleBytes>& rows) {
  Json json = Json::object();
  for (const RoleBytes& row : rows) {
    const std::string role(name_of(row.role));
    json[role] = json.value(role, std::int64_t{0}) + row.bytes;
  }
  return json;
}

Json json_by_dtype(const std::vector<RoleBytes>& rows) {
  Json json = Json::array();
  for (const RoleBytes& row : rows) {
    json.push_back({{"role", name_of(row.role)},
                    {"dtype", name_of(row.dtype)},
                    {"count", row.count},
                    {"bytes", row.bytes}});
  }
  return json;
}

Json json_by_phase(const std::vector<PhaseReport>& rows) {
  Json json = Json::object();
  for (const PhaseReport& row : rows) {
    Json largest = Json::array();
    for (const AliveValue& value : row.largest) largest.push_back(json_of(value));
    json[std::string(name_of(row.phase))] = {{"peak_bytes", row.peak_bytes},
                                             {"scratch_bytes", row.scratch_bytes},
                                             {"by_role", json_by_role(row.by_role)},
                                             {"peak_at", json_of(row.at)},
                                             {"largest", std::move(largest)}};
  }
  return json;
}

void add_space(Json& json, const SpaceReport& space, const std::vector<PhaseReport>& phases) {
  json["scratch_bytes"] = space.scratch_bytes;
  json["by_role"] = json_by_role(space.by_role);
  json["by_role_dtype"] = json_by_dtype(space.by_role);
  Json layers = Json::object();
  for (const LayerBytes& row : space.by_layer) layers[std::to_string(row.layer)] = row.bytes;
  json["by_layer"] = std::move(layers);
  json["by_phase"] = json_by_phase(phases);
  json["peak_at"] = json_of(space.peak_at);
}

Json json_of_program(const ProgramReport& program, const ArenaReport& arena) {
  Json json;
  if (const SpaceReport* space = MemoryReport::find(program, arena.space)) {
    json["arena_bytes"] = arena.arena_bytes;
    json["peak_bytes"] = space->peak_bytes;
    json["lower_bound_bytes"] = space->lower_bound_bytes;
    add_space(json, *space, space->by_phase);
  }
  return json;
}

Json json_of_arena(const MemoryReport& report, const ArenaReport& arena) {
  Json json = {{"arena_bytes", arena.arena_bytes},
               {"peak_bytes", arena.arena_bytes},
               {"lower_bound_bytes", arena.lower_bound_bytes},
               {"run_bytes", arena.run_bytes},
               {"placement", arena.placement}};
  const std::int32_t peak = report.peak_program(arena.space);
  if (peak < 0) return json;
  const ProgramReport& program = report.programs[static_cast<std::size_t>(peak)];
  const SpaceReport* space = MemoryReport::find(program, arena.space);
  if (space == nullptr) return json;
  add_space(json, *space, report.by_phase(arena.space));
  Json alive = Json::array();
  for (const AliveValue& value : space->alive) alive.push_back(json_of(value));
  json["alive"] = std::move(alive);
  return json;
}

template <class... Args>
void line(std::string& out, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
  out += '\n';
}

std::string place_of(const PeakAt& at) {
  const std::string layer = at.layer < 0 ? "" : fmt::format(", layer {}", at.layer);
  return fmt::format("{} #{} {} -> {}{}", at.program, at.instruction, at.op, at.value, layer);
}

void print_roles(std::string& out, const std::vector<RoleBytes>& rows) {
  for (const RoleBytes& row : rows) {
    line(out, "  {:<16} {:<5} {:>7} {:>14}", name_of(row.role), name_of(row.dtype), row.count,
         binary_bytes(row.bytes));
  }
}

void print_arena(std::string& out, const MemoryReport& report, const ArenaReport& arena) {
  line(out, "{} arena: {} ({} bytes), {:.2f} % above the bound of {}", name_of(arena.space),
       binary_bytes(arena.arena_bytes), group_digits(arena.arena_bytes), 100 * arena.excess(),
       binary_bytes(arena.lower_bound_bytes));
  const std::int32_t peak = report.peak_program(arena.space);
  if (peak < 0) return;
  const SpaceReport* space =
      MemoryReport::find(report.programs[static_cast<std::size_t>(peak)], arena.space);
  line(out, "peak at {}", place_of(space->peak_at));
  print_roles(out, space->by_role);
  for (const PhaseReport& row : report.by_phase(arena.space)) {
    line(out, "{:<8} {:>12} at {}, scratch up to {}", name_of(row.phase),
         binary_bytes(row.peak_bytes), place_of(row.at), binary_bytes(row.scratch_bytes));
    for (const AliveValue& value : row.largest) {
      line(out, "  {:>12}  {} {} {}", binary_bytes(value.bytes), name_of(value.role),
           name_of(value.dtype), value.name);
    }
  }
  for (const ProgramReport& program : report.programs) {
    const SpaceReport* row = MemoryReport::find(program, arena.space);
    line(out, "program {:<24} peak {:>12}, bound {:>12}", program.name,
         binary_bytes(row->peak_bytes), binary_bytes(row->lower_bound_bytes));
  }
}

}  // namespace

nlohmann::ordered_json report_json(const MemoryReport& report) {
  Json json;
  json["fits"] = report.fits();
  if (report.budget_bytes > 0) json["budget_bytes"] = report.budget_bytes;
  json["outside_bytes"] = report.outside_bytes;
  json["planning_bytes"] = report.planning_bytes;
  Json spaces = Json::object();
  for (const ArenaReport& arena : report.arenas) {
    Json space = json_of_arena(report, arena);
    if (arena.space == Space::device) json.update(space);
    spaces[std::string(name_of(arena.space))] = std::move(space);
  }
  json["spaces"] = std::move(spaces);
  Json programs = Json::object();
  for (const ProgramReport& program : report.programs) {
    Json entry = Json::object();
    for (const ArenaReport& arena : report.arenas) {
      Json space = json_of_program(program, arena);
      if (arena.space == Space::device) {
        entry.update(space);
      } else {
        entry[std::string(name_of(arena.space))] = std::move(space);
      }
    }
    programs[program.name] = std::move(entry);
  }
  json["programs"] = std::move(programs);
  return json;
}

std::string report_text(const MemoryReport& report) {
  std::string out;
  for (const ArenaReport& arena : report.arenas) print_arena(out, report, arena);
  return out;
}

namespace {

/// The kind of node that a choice is for: `linear(f32[4, 8], f32[8, 8], _)`.
std::string signature(const Plan& plan, const KernelChoice& choice) {
  const Graph& graph = plan.graph(choice.program);
  const Node& node = graph.nodes[static_cast<std::size_t>(choice.node)];
  std::string operands;
  for (const ValueId id : node.inputs) {
    if (!operands.empty()) operands += ", ";
    operands += exists(id) ? graph.value(id).type.to_string() : "_";
  }
  return fmt::format("{}({})", op_def(node.op).name, operands);
}

}  // namespace

std::string kernels_text(const Plan& plan) {
  std::string out;
  for (const KernelChoice& choice : plan.choices) {
    line(out, "{}: {}, {} nodes, scratch {}", signature(plan, choice), choice.kernel->name,
         choice.nodes, binary_bytes(choice.grant));
    if (!choice.kernel->row_invariant) line(out, "  a row's bits depend on the number of rows");
    if (!choice.kernel->thread_invariant) line(out, "  bits depend on the number of threads");
    for (const auto& [kernel, reason] : choice.refusals) line(out, "  not {}: {}", kernel, reason);
  }
  return out;
}

std::vector<std::string> reference_warnings(const Plan& plan) {
  std::vector<std::string> warnings;
  for (const KernelChoice& choice : plan.choices) {
    if (!choice.last_of_list || choice.refusals.empty()) continue;
    std::string text =
        fmt::format("warning: {} runs on the slow reference kernel", signature(plan, choice));
    for (const auto& [kernel, reason] : choice.refusals) {
      text += fmt::format("; not {}: {}", kernel, reason);
    }
    warnings.push_back(std::move(text));
  }
  return warnings;
}

}  // namespace snug
