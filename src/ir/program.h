#pragma once
// A step is a script of programs, all compiled before step 1 over one set of arenas.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ir/graph.h"

namespace snug {

/// One compiled unit, played as a whole: `init`, `micro.512.first`, `update`, `eval.512`, ...
struct Program {
  std::string name;
  Graph graph;
};

/// One call of the script: a program with the inputs of one micro-batch slot.
struct ScriptCall {
  std::int32_t program = -1;
  std::int32_t slot = -1;  ///< micro-batch of the step; -1: none
};

/// How a step of k micro-batches is played. Program indices; -1 where a program does not exist.
struct StepScript {
  /// Programs for micro-batches of one capacity (tokens).
  struct Bucket {
    std::int64_t rows = 0;         ///< sequences
    std::int64_t length = 0;       ///< tokens a sequence
    std::int32_t whole_step = -1;  ///< forward, backward and update in one: steps of one slot
    std::int32_t first = -1;       ///< writes the step's gradients
    std::int32_t next = -1;        ///< adds to them
  };
  /// The loss alone of up to `rows` sequences of `length` tokens.
  struct Evaluation {
    std::int64_t rows = 0;
    std::int64_t length = 0;
    std::int32_t program = -1;
  };
  std::vector<Bucket> buckets;          ///< by length, ascending
  std::vector<Evaluation> evaluations;  ///< by length, ascending: lengths of their own
  std::int32_t init = -1;
  std::int32_t update = -1;

  /// The calls of a step whose slot i uses buckets[slot_buckets[i]]; replaces `calls`' contents.
  void expand(std::span<const std::int32_t> slot_buckets, std::vector<ScriptCall>& calls) const;
};

/// What passes/ hands to plan/: everything a run will ever execute.
struct StepModule {
  std::vector<Program> programs;
  StepScript script;
  ParameterTable parameters;
};

}  // namespace snug
