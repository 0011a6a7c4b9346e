#pragma once
// Settings that exclude each other: refused before memory is reserved, with the nearest that work.

#include "plan/recipe.h"

namespace snug {

/// Whether a step of these settings may have more than one micro-batch.
bool may_accumulate(const Settings& settings);

/// UserError when the settings exclude each other: why, and the nearest settings that work.
void check_combinations(const RecipeRequest& request, const KernelSource& kernels);

}  // namespace snug
