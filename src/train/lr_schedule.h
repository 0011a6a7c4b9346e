#pragma once
// Learning-rate schedules with transformers' names and values (transformers 5: optimization.py).

#include <cstdint>

#include "core/settings.h"

namespace snug {

/// The learning rate of each optimizer step. Where transformers lets a schedule run past its end
/// (cosine rises again), this one stays at its last value.
class LearningRate {
 public:
  /// `total_steps` optimizer steps in all. UserError when lr_scheduler_kwargs miss what the
  /// schedule needs or contradict each other.
  LearningRate(const ScheduleSettings& settings, std::int64_t total_steps);

  /// The rate of the update after `applied` applied updates: 0 for the first.
  double at(std::int64_t applied) const;
  std::int64_t warmup_steps() const { return static_cast<std::int64_t>(warmup_); }

 private:
  double warm(double step) const;
  double after_warmup(double step) const;
  double stable_decay(double step) const;
  /// (step - warmup) / (total - warmup), at most 1.
  double progress(double step) const;

  ScheduleSettings settings_;
  double total_;
  double warmup_;
  double floor_ = 0;  ///< of the schedules with a minimum, as a share of the base rate
};

}  // namespace snug
