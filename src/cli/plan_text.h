#pragma once
// What `snug plan` prints for people.

#include <ostream>

#include "plan/recipe.h"
#include "plan/report.h"
#include "train/request.h"

namespace snug {

/// FLOPs that backward spends on computing a micro-batch's values again.
struct Recomputed {
  std::int64_t flops = 0;
  double forwards = 0;  ///< as a share of one forward
  double steps = 0;     ///< as a share of the rest of the step
};
Recomputed recomputed_of(const Recipe& recipe);

/// The verdict, six lines, notes; with `details` all the rest. On a misfit what would fit, and
/// where the run could start as it is the command that starts it.
void print_plan(const Settings& settings, const ModelSource& model, const RunRequest& run,
                const Recipe& recipe, const MemoryReport& report, std::ostream& out);

}  // namespace snug
