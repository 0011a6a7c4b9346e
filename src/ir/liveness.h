#pragma once
// When storage is needed. Read from program order: a value lives from the node that writes it to
// the last node that reads it or a version or view of it.

#include <cstdint>
#include <vector>

#include "ir/graph.h"

namespace snug {

/// One piece of storage and the instructions it must survive, both ends included.
struct StorageInterval {
  ValueId root = kNoValue;  ///< the value whose name and type the storage goes by
  std::int64_t bytes = 0;   ///< of the largest value that lives in it, unaligned
  Space space = Space::device;
  Scope scope = Scope::call;
  std::int32_t begin = -1;  ///< node index; -1: filled before the program starts
  std::int32_t end = -1;    ///< node index; node count: read after the program ends
};

struct Liveness {
  std::vector<StorageInterval> intervals;
  /// For each value the index of its interval; -1 for values nothing mentions.
  std::vector<std::int32_t> interval_of;
};

/// Groups values that share storage (versions, views, and results that may take the place of an
/// operand that dies there) and gives each group its interval. What an asynchronous copy reads or
/// writes is held until the node that waits for its token. Values of run, step and session scope
/// are held through the whole program.
Liveness analyse_liveness(const Graph& graph);

}  // namespace snug
