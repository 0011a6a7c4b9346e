#pragma once
// The one way from settings, a model and rows to what is planned: every verb that plans takes it,
// so what `plan` says is what `train` does.

#include <memory>
#include <optional>
#include <string>

#include "exec/executor.h"
#include "plan/recipe.h"
#include "train/checkpoint.h"
#include "train/run_schedule.h"
#include "train/run_setup.h"

namespace snug {

/// What is to be planned, and what plans it.
struct RunRequest {
  RecipeRequest
      recipe;  ///< its settings go by the model's files: quantisation, an evaluation's type
  std::unique_ptr<KernelSource> kernels;
  std::unique_ptr<RunSchedule> schedule;  ///< of training on rows; else nullptr
  std::string budget_from;                ///< what says how much the process may take
  /// For a resumed run that takes the recipe of the run before: the settings it takes where that
  /// does not fit, and what is then to be said.
  std::optional<Settings> otherwise;
  std::string otherwise_said;
};

/// A run on `data`: training where it has rows to train on, evaluation alone where it only has rows
/// to evaluate on. Without any row it is training in which every row, to train or to evaluate on,
/// is data.max_length tokens long. `before` is where a resumed run goes on from, or nullptr.
/// UserError for every contradiction that can be seen without compiling.
RunRequest make_request(const Settings& settings, const ModelSource& model, const DataSource& data,
                        const Progression* before);

/// The recipe of a request (choose_recipe), checked against the model's files. UserError where they
/// hold what the recipe cannot read; a recipe that does not fit is the caller's to refuse. `said`:
/// lines on how it differs from the resumed run's.
Recipe make_recipe(const RunRequest& request, const ModelSource& model,
                   std::string* said = nullptr);

/// Reserves the arenas of a recipe that fits. In the process's own memory the recipe is first
/// reduced to what playing it needs (plan/playable.h), and what planning took is given back.
std::unique_ptr<Executor> make_executor(Recipe& recipe, ThreadPool& pool, ExecutorOptions options);

/// Before the first step of a program of its own: InternalError where it holds more beside the
/// arenas than was computed.
void check_outside(const Recipe& recipe, const Arenas& arenas);

}  // namespace snug
