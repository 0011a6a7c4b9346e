#pragma once
// Checkpoints and the final model of a run: when they are written, how long that takes, and what
// happens where there is no room.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>

#include "core/settings.h"
#include "train/checkpoint.h"
#include "train/progress.h"
#include "train/run_folder.h"
#include "train/run_schedule.h"

namespace snug {

class Saver {
 public:
  /// `folder` and what the writer reads must outlive the saver.
  Saver(const SaveSettings& settings, const RunSchedule& schedule, RunFolder& folder,
        std::string config_yaml, CheckpointWriter writer, Talk talk);

  /// UserError when the disk is too small for what the run will write.
  void check_disk_for() const;
  /// Whether a checkpoint is to be written after this step: by the schedule, by the clock, as the
  /// run's last, or because an earlier one found no room.
  bool due(std::int64_t step) const;
  /// Writes the step's checkpoint, unless it is there already. False, with a warning, where there
  /// is no room: the earlier ones stay, and it is tried again.
  bool save(const Progression& progression);
  void save_model(const TrainerState& trainer) const;

  /// Seconds that a checkpoint takes: as measured last, before that at an assumed rate.
  double seconds() const;
  std::int64_t checkpoint_bytes() const { return checkpoint_bytes_; }
  /// The step of the newest checkpoint that this process wrote or began from; -1: none.
  std::int64_t saved_at() const { return saved_at_; }
  void began_from(std::int64_t step) { saved_at_ = step; }

  /// Until a checkpoint was written, bytes a second.
  static constexpr double kAssumedRate = 500e6;

 private:
  using Clock = std::chrono::steady_clock;
  void warn(const std::string& why, std::int64_t step);
  SaveSettings settings_;
  const RunSchedule& schedule_;
  RunFolder& folder_;
  std::string config_yaml_;
  CheckpointWriter writer_;
  Talk talk_;
  std::int64_t checkpoint_bytes_;
  double measured_seconds_ = 0;
  Clock::time_point last_ = Clock::now();
  Clock::time_point tried_{};
  Clock::time_point warned_{};
  bool wanting_ = false;  ///< the last try found no room
  std::int64_t saved_at_ = -1;
};

}  // namespace snug
