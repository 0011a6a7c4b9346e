#pragma once
// What a process holds beside its arenas: upper bounds, from what is planned alone.

#include <cstdint>

#include "plan/plan.h"

namespace snug {

/// Most bytes of an instruction, and of an operand, of a program ready to be played.
inline constexpr std::int64_t kStepBytes = 112;
inline constexpr std::int64_t kOperandBytes = 16;

/// What of it is known before a recipe is compiled.
struct RunBytes {
  std::int64_t reading = 0;    ///< most while rows are read and tokenised
  std::int64_t rows = 0;       ///< tokenised rows and their order
  std::int64_t history = 0;    ///< what is kept of logged steps, with its text while it is written
  bool fills_weights = false;  ///< weights are drawn, not read
};

/// Bytes of anonymous memory beside the arenas while a recipe runs, page tables too.
struct OutsideBytes {
  std::int64_t program = 0;  ///< the program, its libraries, the heap's own
  std::int64_t threads = 0;  ///< stacks
  std::int64_t rows = 0;
  std::int64_t history = 0;
  std::int64_t sequences = 0;  ///< programs ready to be played
  std::int64_t tables = 0;     ///< parameters, places of shared values
  std::int64_t files = 0;      ///< headers and buffers while weights are read and saved
  std::int64_t page_tables = 0;
  std::int64_t total() const {
    return program + threads + rows + history + sequences + tables + files + page_tables;
  }
};

/// Of a process that plays all programs of `plan`.
OutsideBytes outside_bytes(const StepModule& module, const Plan& plan, const RunBytes& run);

/// Most bytes of the process while `plan` is made, before there is an arena.
std::int64_t planning_bytes(const StepModule& module, const Plan& plan, const RunBytes& run);

}  // namespace snug
