#pragma once
// The back end that computes nothing: plans any model on any machine, and plays plans to check
// them.

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "plan/kernel.h"
#include "plan/plan.h"

namespace snug {

/// One kernel for every op: it accepts all, needs no scratch and does nothing.
std::unique_ptr<KernelSource> make_null_kernels();

/// How the lanes of a program advance against each other, as far as waits allow.
enum class LaneOrder : std::uint8_t {
  list,           ///< in program order
  compute_first,  ///< copies as late as waits allow
  compute_last    ///< copies as early as waits allow
};

struct NullReport {
  std::int64_t instructions = 0;  ///< played
  /// Highest address handed to an instruction, rounded up to the alignment, by space.
  std::array<std::int64_t, kSpaces> used_peak{};
};

/// Plays `calls` without executing: each instruction writes its mark to its outputs and must read
/// the marks that list order would give it. InternalError when a read meets other marks, when a
/// step- or call-scoped value is read before anything wrote it, when an address is outside its
/// arena, or when lanes wait for each other for ever.
NullReport play_null(const Plan& plan, std::span<const ScriptCall> calls, LaneOrder order);

/// Every program once, and every step of up to two micro-batches, in each lane order.
NullReport play_null(const Plan& plan);

}  // namespace snug
