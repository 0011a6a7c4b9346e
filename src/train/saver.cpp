#include "train/saver.h"

#include <utility>

#include "io/checkpoints.h"

namespace snug {
namespace {

/// Bytes of the checkpoints that are there already.
std::int64_t checkpoints_bytes(const std::filesystem::path& output) {
  std::int64_t bytes = 0;
  for (const Checkpoint& checkpoint : list_checkpoints(output)) {
    bytes += folder_bytes(checkpoint.folder);
  }
  return bytes;
}

}  // namespace

Saver::Saver(const SaveSettings& settings, std::filesystem::path output, std::string config_yaml,
             CheckpointWriter writer)
    : settings_(settings),
      output_(std::move(output)),
      config_yaml_(std::move(config_yaml)),
      writer_(std::move(writer)) {}

void Saver::check_disk_for(const RunSchedule& schedule) const {
  const bool saves = schedule.save_every() > 0;
  const std::int64_t kept =
      settings_.total_limit.value_or(saves ? schedule.steps() / schedule.save_every() : 0);
  check_disk({.checkpoints = saves ? kept : 0,
              .checkpoint_bytes = saves ? writer_.checkpoint_bytes() : 0,
              .model_bytes = writer_.model_bytes(),
              .present_bytes = checkpoints_bytes(output_)},
             output_);
}

void Saver::save(const Progression& progression) {
  if (saved_at_ == progression.trainer.global_step) return;
  saved_at_ = progression.trainer.global_step;
  writer_.save(output_, progression, config_yaml_, settings_.total_limit.value_or(0));
}

void Saver::save_model(const TrainerState& trainer) const {
  writer_.save_model(output_, trainer, config_yaml_);
}

}  // namespace snug
