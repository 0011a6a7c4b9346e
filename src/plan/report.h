#pragma once
// What a plan needs, when, and what for. A struct first; text and JSON are printers of it.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "plan/plan.h"

namespace snug {

/// Bytes below are planned bytes: each value rounded up to its space's alignment.
struct RoleBytes {
  Role role = Role::activation;
  DType dtype = DType::f32;
  std::int64_t count = 0;
  std::int64_t bytes = 0;
};

struct LayerBytes {
  int layer = -1;  ///< -1: outside the layers
  std::int64_t bytes = 0;
};

struct AliveValue {
  std::string name;
  Role role = Role::activation;
  DType dtype = DType::f32;
  Scope scope = Scope::call;
  int layer = -1;
  std::int64_t offset = 0;
  std::int64_t bytes = 0;
};

/// An instruction and the bytes alive while it runs.
struct PeakAt {
  std::string program;
  std::int32_t instruction = -1;
  std::string op;
  std::string value;  ///< its first output
  Phase phase = Phase::forward;
  int layer = -1;
  std::int64_t bytes = 0;
};

struct PhaseReport {
  Phase phase = Phase::forward;
  std::int64_t peak_bytes = 0;      ///< highest address handed to an instruction of the phase
  std::int64_t scratch_bytes = 0;   ///< largest grant
  PeakAt at;                        ///< where most bytes are alive
  std::vector<RoleBytes> by_role;   ///< alive there
  std::vector<AliveValue> largest;  ///< the five largest alive there
};

struct SpaceReport {
  Space space = Space::device;
  std::int64_t peak_bytes = 0;         ///< highest address handed to an instruction
  std::int64_t lower_bound_bytes = 0;  ///< most bytes alive at one instruction
  std::int64_t scratch_bytes = 0;      ///< largest grant
  PeakAt peak_at;
  std::vector<RoleBytes> by_role;    ///< alive at the peak, largest first; as the lists below
  std::vector<LayerBytes> by_layer;  ///< by layer, ascending
  std::vector<AliveValue> alive;
  std::vector<PhaseReport> by_phase;
};

struct ProgramReport {
  std::string name;
  std::vector<SpaceReport> spaces;  ///< of those with an arena
};

struct ArenaReport {
  Space space = Space::device;
  std::int64_t arena_bytes = 0;
  std::int64_t lower_bound_bytes = 0;
  std::int64_t run_bytes = 0;  ///< held through the whole run
  std::string placement;       ///< the placement order that won
  /// Bytes above the lower bound, as a fraction of it.
  double excess() const;
};

struct MemoryReport {
  std::vector<ArenaReport> arenas;  ///< the device's first; empty ones are left out
  std::vector<ProgramReport> programs;
  std::int64_t budget_bytes = 0;    ///< of the device; 0: no limit. Set by the caller,
  std::int64_t outside_bytes = 0;   ///< as what the process needs beside the arena,
  std::int64_t planning_bytes = 0;  ///< and what it needs before there is one

  std::int64_t arena_bytes(Space space) const;
  bool fits() const;
  /// Index of the program with most bytes alive in the space; -1 when it has no arena.
  std::int32_t peak_program(Space space) const;
  /// The space's part of a program's report; nullptr when it has no arena.
  static const SpaceReport* find(const ProgramReport& program, Space space);
  /// Over all programs: each phase where it needs most.
  std::vector<PhaseReport> by_phase(Space space) const;
};

MemoryReport make_report(const Plan& plan);

/// Tables for people; lines end with '\n'.
std::string report_text(const MemoryReport& report);

/// `fits`, `arena_bytes`, `peak_bytes`, `lower_bound_bytes`, `by_role`, `by_phase`, `peak_at` of
/// the device arena; `spaces`: the same for each arena; `programs`: the same for each program.
nlohmann::ordered_json report_json(const MemoryReport& report);

/// Per kind of node: the kernel chosen, how many nodes, their scratch, and why others refused.
std::string kernels_text(const Plan& plan);

/// One line for each kind of node that falls to the reference kernel though its back end has a
/// faster one, with the reasons; empty when there is none.
std::vector<std::string> reference_warnings(const Plan& plan);

}  // namespace snug
