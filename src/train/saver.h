#pragma once
// Checkpoints and the final model of a run, written into its folder.

#include <cstdint>
#include <filesystem>
#include <string>

#include "core/settings.h"
#include "train/checkpoint.h"
#include "train/run_schedule.h"

namespace snug {

class Saver {
 public:
  Saver(const SaveSettings& settings, std::filesystem::path output, std::string config_yaml,
        CheckpointWriter writer);

  /// UserError when the disk is too small for what the run will write.
  void check_disk_for(const RunSchedule& schedule) const;
  /// Writes a checkpoint, unless this step's is there already.
  void save(const Progression& progression);
  void save_model(const TrainerState& trainer) const;

 private:
  SaveSettings settings_;
  std::filesystem::path output_;
  std::string config_yaml_;
  CheckpointWriter writer_;
  std::int64_t saved_at_ = -1;
};

}  // namespace snug
