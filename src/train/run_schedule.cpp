#include "train/run_schedule.h"

#include <algorithm>
#include <cmath>

namespace snug {
namespace {

std::int64_t steps_of(const ScheduleSettings& schedule, std::int64_t steps_per_epoch) {
  if (schedule.max_steps > 0) return schedule.max_steps;
  return static_cast<std::int64_t>(
      std::ceil(schedule.num_train_epochs * static_cast<double>(steps_per_epoch)));
}

/// Steps between two events of an interval; 0: never.
std::int64_t every(Interval strategy, const CountOrShare& steps, std::int64_t total,
                   std::int64_t steps_per_epoch) {
  if (strategy == Interval::no) return 0;
  if (strategy == Interval::epoch) return steps_per_epoch;
  return std::max<std::int64_t>(1, steps.of(total));
}

std::int64_t evaluations(const Settings& settings, bool evaluates, std::int64_t total,
                         std::int64_t steps_per_epoch) {
  if (!evaluates) return 0;
  const Interval asked = settings.evaluation.strategy;
  return every(asked == Interval::automatic ? Interval::epoch : asked,
               settings.evaluation.steps.value_or(settings.logging.steps), total, steps_per_epoch);
}

std::int64_t saves(const SaveSettings& save, std::int64_t total, std::int64_t steps_per_epoch) {
  return every(save.strategy == Interval::automatic ? Interval::steps : save.strategy, save.steps,
               total, steps_per_epoch);
}

}  // namespace

RunSchedule::RunSchedule(const Settings& settings, std::int64_t rows, std::int64_t rows_per_step,
                         bool evaluates)
    : order_(rows, rows_per_step, settings.data.order,
             static_cast<std::uint64_t>(settings.data.data_seed.value_or(settings.run.seed))),
      steps_(steps_of(settings.schedule, order_.steps())),
      rate_(settings.schedule, steps_),
      epochs_(settings.schedule.num_train_epochs),
      log_every_(std::max<std::int64_t>(1, settings.logging.steps.of(steps_))),
      eval_every_(evaluations(settings, evaluates, steps_, order_.steps())),
      save_every_(saves(settings.save, steps_, order_.steps())) {}

void RunSchedule::describe(TrainerState& state) const {
  state.max_steps = steps_;
  state.num_train_epochs = epochs_;
  state.logging_steps = log_every_;
  state.eval_steps = eval_every_;
  state.save_steps = save_every_;
}

}  // namespace snug
