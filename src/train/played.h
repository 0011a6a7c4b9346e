#pragma once
// What of a plan a run has used so far.

#include <cstdint>
#include <vector>

#include "exec/executor.h"
#include "plan/recipe.h"

namespace snug {

/// The planned peak of the programs that were played: the whole plan's, unless the program that
/// needs most is that of a length to which no batch was padded.
struct PlayedPart {
  std::int64_t peak_bytes = 0;
  std::vector<std::int64_t> absent_lengths;  ///< buckets of training that no batch came for
};

PlayedPart played_part(const Recipe& recipe, const Executor& executor);

}  // namespace snug
