#pragma once
// What of a recipe is needed once its programs are ready to be played.

#include "plan/recipe.h"

namespace snug {

/// A copy of `recipe` with its settings, script and parameters, where shared values lie, and where
/// each program has its ports: the inputs, scalars and metrics that the host writes before it is
/// played or reads after. Plan::location answers for these as before. Nodes, other values, kernels
/// and operands are left behind: no report, no check and no sequence can be made of the copy.
Recipe playable(const Recipe& recipe);

}  // namespace snug
