#pragma once
// What an instruction waits for on other lanes.

#include "plan/plan.h"

namespace snug {

/// Sets the waits of a placed program: an instruction waits for those of other lanes that write
/// what it reads, or touch what it writes. This covers data and re-used addresses alike. At most
/// one wait a lane, and none that lane order or another wait already implies.
void compute_waits(const Graph& graph, ProgramPlan& program);

}  // namespace snug
