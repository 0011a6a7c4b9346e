#pragma once
// What `plan` and `explain` compile: the run that `train` would make, without weights.

#include <memory>

#include "cli/console.h"
#include "core/settings.h"
#include "plan/recipe.h"
#include "train/run_setup.h"

namespace snug {

struct PlannedRun {
  ModelSource model;
  RecipeRequest request;
  std::unique_ptr<KernelSource> kernels;
};

/// With train_file the lengths come from the data; without, every row is taken to be max_length
/// tokens long and evaluation to be wanted.
PlannedRun plan_request(const Settings& settings);

}  // namespace snug
