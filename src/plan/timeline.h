#pragma once
// One line of time for all programs of a module, and what outlives a program on it.

#include <cstdint>
#include <vector>

#include "ir/liveness.h"
#include "ir/program.h"

namespace snug {

/// When a program is played. Programs outside the step hold nothing but run-scoped values; those
/// that touch a session's values share the session; micro-batches and the update share the step.
/// A program that is a whole step keeps its step-scoped values to itself.
enum class Part : std::uint8_t { outside, session, first, next, update };

/// Programs laid one after the other, part by part. A program of n nodes takes n + 2 instants:
/// before, one a node, after.
class Timeline {
 public:
  /// `live` holds the liveness of each program.
  Timeline(const StepModule& module, const std::vector<Liveness>& live);

  std::int32_t start(std::size_t program) const { return starts_[program]; }
  Part part(std::size_t program) const { return parts_[program]; }
  std::int32_t instants() const { return instants_; }
  /// First and last instant of a part; an empty range when no program is in it.
  std::int32_t part_begin(Part part) const;
  std::int32_t part_end(Part part) const;
  /// Whether other programs may rely on a value of that scope in this program.
  bool outlives(std::size_t program, Scope scope) const;

 private:
  std::vector<std::int32_t> sizes_;
  std::vector<std::int32_t> starts_;
  std::vector<Part> parts_;
  std::int32_t instants_ = 0;
};

/// The nodes that touch an interval whatever its scope: -1 when it is an input of the program, node
/// count when it is an output.
struct Touch {
  std::int32_t first = 0;
  std::int32_t last = -1;
};

/// One a liveness interval.
std::vector<Touch> touches(const Graph& graph, const Liveness& live);

}  // namespace snug
