#pragma once
// Proof that a plan is safe to play, independent of how it was made.

#include "plan/plan.h"

namespace snug {

/// Throws InternalError unless, in every program:
/// - operands and scratch lie inside their storage and arena, aligned;
/// - of any two accesses that overlap and of which one writes, one happens before the other: by the
///   order of their lane or through waits, not by list order;
/// - every read meets what the same storage holds, and what must survive the program does.
/// Run by make_plan in every build.
void verify_plan(const Plan& plan);

}  // namespace snug
