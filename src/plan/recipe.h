#pragma once
// Choosing what was left open: the micro-batch and what is recomputed, at an unchanged global
// batch.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/settings.h"
#include "passes/pipeline.h"
#include "plan/outside.h"
#include "plan/plan.h"

namespace snug {

/// What a run asks the planner for.
struct RecipeRequest {
  ModelConfig config;
  Settings settings;
  std::vector<std::int64_t> lengths;  ///< of training's buckets, ascending; none: evaluation alone
  std::vector<std::int64_t> evaluation_lengths =
      {};  ///< of evaluation's buckets; none: no evaluation
  std::int64_t rope_positions = 1;
  Target target;
  std::int64_t budget_bytes = 0;  ///< of the whole process; of a card's memory where there is one
  RunBytes run = {};              ///< what of the process is known already
};

/// A compiled and planned way to run it.
struct Recipe {
  Settings settings;  ///< nothing open any more
  std::int64_t rows_per_step = 0;
  std::int64_t micro_rows = 0;
  std::int64_t accumulation = 1;
  std::unique_ptr<StepModule> module;  ///< what `plan` points to
  Plan plan;
  double estimated_seconds = 0;     ///< of a step, by the target's nominal rates
  OutsideBytes outside;             ///< what the process holds beside the arenas
  std::int64_t planning_bytes = 0;  ///< what it holds before there are any
  std::int64_t needed_bytes = 0;    ///< the larger: arenas and what is outside them, or planning
  bool fits = false;
};

/// What compile_step is asked for with micro-batches of `micro_rows`.
StepRequest step_request(const RecipeRequest& request, std::int64_t micro_rows,
                         std::int64_t accumulation);

/// Tokens of the longest row, to train or to evaluate on.
std::int64_t longest_row(const RecipeRequest& request);

/// The request with no row longer than `length`.
RecipeRequest with_length(RecipeRequest request, std::int64_t length);

/// Compiles and plans one recipe whose settings leave nothing open.
Recipe compile_recipe(const RecipeRequest& request, const Settings& settings,
                      std::int64_t micro_rows, const KernelSource& kernels, PipelineTrace* trace);

/// The fastest recipe that fits, by nominal rates: where the micro-batch is open, of all that
/// divide the step; where recomputing is open, with as little of it as the budget allows (its key
/// is then `false` or a byte limit). When none fits, the one that needs the least memory, with
/// `fits` false. Every choice keeps the global batch and is exact or reordered. UserError when the
/// batch keys contradict each other, or when no micro-batch stays below a given limit of
/// activations. Evaluation alone leaves nothing to choose.
Recipe choose_recipe(const RecipeRequest& request, const KernelSource& kernels,
                     PipelineTrace* trace);

/// A single change to a recipe that does not fit, with its exact bytes.
struct Advice {
  std::string change;  ///< `key=value`, copyable
  std::int64_t needed_bytes = 0;
  bool fits = false;
};

/// Up to `count` single changes, those that fit first, exact ones before others.
std::vector<Advice> advise(const RecipeRequest& request, const Recipe& tried,
                           const KernelSource& kernels, std::size_t count);

/// `does not fit: needs 9.81 GiB, device_memory is 8 GiB. Fits: ... Smallest found: 5.77 GiB.`
std::string describe_misfit(const RecipeRequest& request, const Recipe& tried,
                            const std::vector<Advice>& advice);

}  // namespace snug
