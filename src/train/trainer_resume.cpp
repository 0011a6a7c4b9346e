// Whether a run may go on from a checkpoint.

#include "core/error.h"
#include "core/settings_load.h"
#include "train/trainer.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

}  // namespace

void Trainer::check_resumed(const Progression& before) const {
  std::string differences;
  const auto compare = [&](std::string_view what, const auto& then, const auto& now) {
    if (then != now) differences += fmt::format("\n  {}: {} then, {} now", what, then, now);
  };
  compare("seed", before.seed, at_.seed);
  compare("rows of the data", before.data.rows, at_.data.rows);
  compare("rows a step (global_batch_size)", before.data.rows_per_step, at_.data.rows_per_step);
  compare("per_device_train_batch_size", before.trainer.train_batch_size,
          at_.trainer.train_batch_size);
  compare("fingerprint of the tokens", before.data.fingerprint, at_.data.fingerprint);
  const fs::path config = folder_->resume_from() / "config.yaml";
  if (fs::exists(config)) {
    const Settings then = make_settings(read_config(config.string()));
    compare("data_seed", then.data.data_seed.value_or(then.run.seed),
            settings_.data.data_seed.value_or(settings_.run.seed));
    for (const Row& row : settings_table()) {
      if (row.resume != OnResume::fixed) continue;
      compare(row.key, row.field.print(then), row.field.print(settings_));
    }
  }
  if (!differences.empty()) {
    user_error(
        "{}: the run was made with other settings that change its results:{}\nSet them back, "
        "or start a run of its own with {}.",
        folder_->resume_from().string(), differences,
        shell_word("model=" + folder_->resume_from().string()));
  }
}

std::string computed_on(const Target& target) {
  return target.backend == "cpu" ? fmt::format("cpu ({})", name_of(target.isa)) : target.backend;
}

/// What a resumed run may change, and what the change does.
void Trainer::print_changes(const Progression& before) const {
  if (!before.computed_on.empty() && before.computed_on != at_.computed_on) {
    talk_.out << fmt::format(
        "note: computed on {} so far, on {} from here: results are not bit-equal to a run that "
        "stays on one of them\n",
        before.computed_on, at_.computed_on);
  }
  const TrainerState& then = before.trainer;
  const TrainerState& now = at_.trainer;
  if (then.max_steps == now.max_steps && then.num_train_epochs == now.num_train_epochs) return;
  const double planned = LearningRate(settings_.schedule, then.max_steps).at(before.applied);
  talk_.out << fmt::format(
      "note: {} steps ({:g} epochs) then, {} ({:g}) now: the learning rate follows the schedule of "
      "{} "
      "steps from here, {:.3g} at this step where {:.3g} was planned\n",
      then.max_steps, then.num_train_epochs, now.max_steps, now.num_train_epochs, now.max_steps,
      schedule_->rate().at(before.applied), planned);
}

}  // namespace snug
