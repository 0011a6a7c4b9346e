#include "plan/report.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>

#include "plan/accesses.h"
#include "plan/placement.h"

namespace snug {
namespace {

constexpr std::array<Space, kSpaces> kAllSpaces = {Space::device, Space::host, Space::disk};
constexpr std::array<Phase, 4> kPhases = {Phase::init, Phase::forward, Phase::backward,
                                          Phase::update};
constexpr std::size_t kLargest = 5;

/// One piece of memory while a program runs, as node indices.
struct Piece {
  std::int32_t begin;
  std::int32_t end;
  std::int64_t offset;
  std::int64_t bytes;
  std::int32_t owner;  ///< as ProgramPlan::storage_of, or kScratchOwner
};

class SpaceReporter {
 public:
  SpaceReporter(const Plan& plan, std::int32_t index, Space space)
      : plan_(plan),
        program_(plan.program(index)),
        graph_(plan.graph(index)),
        name_(plan.module->programs[static_cast<std::size_t>(index)].name),
        space_(space) {
    report_.space = space;
    collect();
  }

  SpaceReport run() {
    if (graph_.nodes.empty()) return std::move(report_);
    const std::vector<std::int64_t> alive = alive_bytes();
    const std::vector<std::int64_t> handed = handed_bytes();
    report_.peak_at = peak_among(alive, [](const Node&) { return true; });
    report_.lower_bound_bytes = report_.peak_at.bytes;
    report_.peak_bytes = *std::max_element(handed.begin(), handed.end());
    const std::vector<Piece> at_peak = pieces_at(report_.peak_at.instruction);
    report_.by_role = by_role(at_peak);
    report_.by_layer = by_layer(at_peak);
    report_.alive = largest(at_peak, at_peak.size());
    for (const Phase phase : kPhases) add_phase(phase, alive, handed);
    return std::move(report_);
  }

 private:
  void collect() {
    const auto count = static_cast<std::int32_t>(graph_.nodes.size());
    const std::int64_t alignment = plan_.target.alignment(space_);
    const auto add = [&](std::int32_t begin, std::int32_t end, std::int64_t offset,
                         std::int64_t bytes, std::int32_t owner) {
      begin = std::max(begin, 0);
      end = std::min(end, count - 1);
      if (begin <= end) pieces_.push_back({begin, end, offset, align_up(bytes, alignment), owner});
    };
    const std::int32_t first = program_.start + 1;
    for (std::size_t r = 0; r < plan_.roots.size(); ++r) {
      const Root& root = plan_.roots[r];
      if (root.space != space_) continue;
      add(root.begin - first, root.end - first, root.offset, root.bytes,
          -2 - static_cast<std::int32_t>(r));
    }
    for (std::size_t s = 0; s < program_.storages.size(); ++s) {
      const Storage& storage = program_.storages[s];
      if (storage.space != space_) continue;
      add(storage.begin, storage.end, storage.offset, storage.bytes, static_cast<std::int32_t>(s));
    }
    if (space_ != Space::device) return;
    for (std::int32_t i = 0; i < count; ++i) {
      const Instruction& instruction = program_.instructions[static_cast<std::size_t>(i)];
      if (instruction.scratch_bytes == 0) continue;
      add(i, i, instruction.scratch_offset, instruction.scratch_bytes, kScratchOwner);
    }
  }

  std::vector<std::int64_t> alive_bytes() const {
    std::vector<std::int64_t> alive(graph_.nodes.size() + 1, 0);
    for (const Piece& piece : pieces_) {
      alive[static_cast<std::size_t>(piece.begin)] += piece.bytes;
      alive[static_cast<std::size_t>(piece.end) + 1] -= piece.bytes;
    }
    std::partial_sum(alive.begin(), alive.end(), alive.begin());
    alive.pop_back();
    return alive;
  }

  /// Highest address handed to each instruction.
  std::vector<std::int64_t> handed_bytes() const {
    std::vector<std::int64_t> handed(graph_.nodes.size(), 0);
    std::vector<Access> accesses;
    for (std::size_t i = 0; i < handed.size(); ++i) {
      accesses_of(graph_, program_, program_.instructions[i], accesses);
      for (const Access& access : accesses) {
        if (access.space == space_) handed[i] = std::max(handed[i], access.high);
      }
      handed[i] = align_up(handed[i], plan_.target.alignment(space_));
    }
    return handed;
  }

  template <class Among>
  PeakAt peak_among(const std::vector<std::int64_t>& alive, Among&& among) const {
    PeakAt peak;
    for (std::size_t i = 0; i < alive.size(); ++i) {
      if (!among(graph_.nodes[i]) || (peak.instruction >= 0 && alive[i] <= peak.bytes)) continue;
      peak.instruction = static_cast<std::int32_t>(i);
      peak.bytes = alive[i];
    }
    if (peak.instruction < 0) return peak;
    const Node& node = graph_.nodes[static_cast<std::size_t>(peak.instruction)];
    peak.program = name_;
    peak.op = op_def(node.op).name;
    peak.value = graph_.value(node.outputs[0]).name;
    peak.phase = node.phase;
    peak.layer = node.layer;
    return peak;
  }

  std::vector<Piece> pieces_at(std::int32_t instruction) const {
    std::vector<Piece> result;
    for (const Piece& piece : pieces_) {
      if (piece.begin <= instruction && instruction <= piece.end) result.push_back(piece);
    }
    return result;
  }

  AliveValue describe(const Piece& piece) const {
    if (piece.owner == kScratchOwner) {
      const Node& node = graph_.nodes[static_cast<std::size_t>(piece.begin)];
      return {fmt::format("scratch of {}", op_def(node.op).name),
              Role::scratch,
              DType::u8,
              Scope::call,
              node.layer,
              piece.offset,
              piece.bytes};
    }
    if (piece.owner < 0) {
      const Root& root = plan_.roots[static_cast<std::size_t>(-2 - piece.owner)];
      return {root.name,  root.role,    root.type.dtype, root.scope,
              root.layer, piece.offset, piece.bytes};
    }
    const Value& value =
        graph_.value(program_.storages[static_cast<std::size_t>(piece.owner)].root);
    return {value.name,  value.role,   value.type.dtype, value.scope,
            value.layer, piece.offset, piece.bytes};
  }

  std::pair<Role, DType> kind_of(const Piece& piece) const {
    if (piece.owner == kScratchOwner) return {Role::scratch, DType::u8};
    if (piece.owner < 0) {
      const Root& root = plan_.roots[static_cast<std::size_t>(-2 - piece.owner)];
      return {root.role, root.type.dtype};
    }
    const Value& value =
        graph_.value(program_.storages[static_cast<std::size_t>(piece.owner)].root);
    return {value.role, value.type.dtype};
  }

  int layer_of(const Piece& piece) const {
    if (piece.owner == kScratchOwner) {
      return graph_.nodes[static_cast<std::size_t>(piece.begin)].layer;
    }
    if (piece.owner < 0) return plan_.roots[static_cast<std::size_t>(-2 - piece.owner)].layer;
    return graph_.value(program_.storages[static_cast<std::size_t>(piece.owner)].root).layer;
  }

  std::vector<RoleBytes> by_role(const std::vector<Piece>& pieces) const {
    std::vector<RoleBytes> result;
    for (const Piece& piece : pieces) {
      const auto [role, dtype] = kind_of(piece);
      auto it = std::find_if(result.begin(), result.end(), [r = role, d = dtype](const auto& row) {
        return row.role == r && row.dtype == d;
      });
      if (it == result.end()) it = result.insert(it, {role, dtype, 0, 0});
      ++it->count;
      it->bytes += piece.bytes;
    }
    std::sort(result.begin(), result.end(), [](const RoleBytes& a, const RoleBytes& b) {
      return std::tuple(-a.bytes, a.role, a.dtype) < std::tuple(-b.bytes, b.role, b.dtype);
    });
    return result;
  }

  std::vector<LayerBytes> by_layer(const std::vector<Piece>& pieces) const {
    std::map<int, std::int64_t> layers;
    for (const Piece& piece : pieces) layers[layer_of(piece)] += piece.bytes;
    std::vector<LayerBytes> result;
    for (const auto& [layer, bytes] : layers) result.push_back({layer, bytes});
    return result;
  }

  std::vector<AliveValue> largest(std::vector<Piece> pieces, std::size_t count) const {
    std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) {
      return std::pair(-a.bytes, a.offset) < std::pair(-b.bytes, b.offset);
    });
    pieces.resize(std::min(pieces.size(), count));
    std::vector<AliveValue> result;
    result.reserve(pieces.size());
    for (const Piece& piece : pieces) result.push_back(describe(piece));
    return result;
  }

  void add_phase(Phase phase, const std::vector<std::int64_t>& alive,
                 const std::vector<std::int64_t>& handed) {
    PhaseReport row;
    row.phase = phase;
    row.at = peak_among(alive, [&](const Node& node) { return node.phase == phase; });
    if (row.at.instruction < 0) return;
    for (std::size_t i = 0; i < handed.size(); ++i) {
      if (graph_.nodes[i].phase != phase) continue;
      row.peak_bytes = std::max(row.peak_bytes, handed[i]);
      if (space_ == Space::device) {
        row.scratch_bytes = std::max(row.scratch_bytes, program_.instructions[i].scratch_bytes);
      }
    }
    const std::vector<Piece> pieces = pieces_at(row.at.instruction);
    row.by_role = by_role(pieces);
    row.largest = largest(pieces, kLargest);
    report_.scratch_bytes = std::max(report_.scratch_bytes, row.scratch_bytes);
    report_.by_phase.push_back(std::move(row));
  }

  const Plan& plan_;
  const ProgramPlan& program_;
  const Graph& graph_;
  const std::string& name_;
  Space space_;
  std::vector<Piece> pieces_;
  SpaceReport report_;
};

}  // namespace

MemoryReport make_report(const Plan& plan) {
  MemoryReport report;
  for (const Space space : kAllSpaces) {
    const ArenaPlan& arena = plan.arena(space);
    if (arena.bytes == 0) continue;
    report.arenas.push_back(
        {space, arena.bytes, arena.lower_bound, arena.run_bytes, std::string(arena.order)});
  }
  for (std::size_t p = 0; p < plan.programs.size(); ++p) {
    ProgramReport program{plan.module->programs[p].name, {}};
    for (const ArenaReport& arena : report.arenas) {
      program.spaces.push_back(
          SpaceReporter(plan, static_cast<std::int32_t>(p), arena.space).run());
    }
    report.programs.push_back(std::move(program));
  }
  return report;
}

double ArenaReport::excess() const {
  if (lower_bound_bytes == 0) return 0;
  return static_cast<double>(arena_bytes - lower_bound_bytes) /
         static_cast<double>(lower_bound_bytes);
}

std::int64_t MemoryReport::arena_bytes(Space space) const {
  for (const ArenaReport& arena : arenas) {
    if (arena.space == space) return arena.arena_bytes;
  }
  return 0;
}

bool MemoryReport::fits() const {
  return budget_bytes == 0 ||
         std::max(arena_bytes(Space::device) + outside_bytes, planning_bytes) <= budget_bytes;
}

const SpaceReport* MemoryReport::find(const ProgramReport& program, Space space) {
  for (const SpaceReport& report : program.spaces) {
    if (report.space == space) return &report;
  }
  return nullptr;
}

std::int32_t MemoryReport::peak_program(Space space) const {
  std::int32_t best = -1;
  std::int64_t most = -1;
  for (std::size_t p = 0; p < programs.size(); ++p) {
    const SpaceReport* report = find(programs[p], space);
    if (report == nullptr || report->lower_bound_bytes <= most) continue;
    best = static_cast<std::int32_t>(p);
    most = report->lower_bound_bytes;
  }
  return best;
}

std::vector<PhaseReport> MemoryReport::by_phase(Space space) const {
  std::vector<PhaseReport> result;
  for (const Phase phase : kPhases) {
    const PhaseReport* most = nullptr;
    std::int64_t peak_bytes = 0;
    std::int64_t scratch_bytes = 0;
    for (const ProgramReport& program : programs) {
      const SpaceReport* report = find(program, space);
      if (report == nullptr) continue;
      for (const PhaseReport& row : report->by_phase) {
        if (row.phase != phase) continue;
        peak_bytes = std::max(peak_bytes, row.peak_bytes);
        scratch_bytes = std::max(scratch_bytes, row.scratch_bytes);
        if (most == nullptr || row.at.bytes > most->at.bytes) most = &row;
      }
    }
    if (most == nullptr) continue;
    result.push_back(*most);
    result.back().peak_bytes = peak_bytes;
    result.back().scratch_bytes = scratch_bytes;
  }
  return result;
}

}  // namespace snug
