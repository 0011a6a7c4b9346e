#pragma once
// What happens at which step of a run: rows, learning rate, logging, evaluation, saving.

#include <cstdint>

#include "core/settings.h"
#include "data/batches.h"
#include "train/lr_schedule.h"
#include "train/trainer_state.h"

namespace snug {

class RunSchedule {
 public:
  /// For `rows` rows of training data, `rows_per_step` a step; `evaluates`: there are rows to
  /// evaluate.
  RunSchedule(const Settings& settings, std::int64_t rows, std::int64_t rows_per_step,
              bool evaluates);

  std::int64_t steps() const { return steps_; }
  const LearningRate& rate() const { return rate_; }
  EpochOrder& order() { return order_; }
  std::int64_t steps_per_epoch() const { return order_.steps(); }

  /// Steps between two events; 0: never.
  std::int64_t log_every() const { return log_every_; }
  std::int64_t eval_every() const { return eval_every_; }
  std::int64_t save_every() const { return save_every_; }
  bool logs_at(std::int64_t step) const { return due(step, log_every_) || step == steps_; }
  bool evaluates_at(std::int64_t step) const {
    return eval_every_ > 0 && (due(step, eval_every_) || step == steps_);
  }
  bool saves_at(std::int64_t step) const { return due(step, save_every_); }

  /// Sets what the state says of the whole run: steps, epochs, intervals.
  void describe(TrainerState& state) const;

 private:
  static bool due(std::int64_t step, std::int64_t interval) {
    return interval > 0 && step % interval == 0;
  }

  EpochOrder order_;
  std::int64_t steps_;
  LearningRate rate_;
  double epochs_;
  std::int64_t log_every_, eval_every_, save_every_;
};

}  // namespace snug
