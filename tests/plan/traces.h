#pragma once
// Lifetimes of a transformer's training step, as a plan sees them.

#include <cstdint>
#include <string>
#include <vector>

#include "plan/placement.h"

namespace snug {

enum class Kept : std::uint8_t { everything, cheap_recomputed, nothing, every_other };

struct TraceShape {
  std::string name;
  int layers;
  std::int64_t tokens, hidden, kv, ffn, vocab;
  Kept kept;
  bool accumulate;  ///< gradients outlive the trace (step scope) instead of dying at an update
  bool offload;     ///< half of the kept values leave and come back
};

std::vector<TraceShape> trace_shapes();
std::vector<Block> training_trace(const TraceShape& shape);

}  // namespace snug
