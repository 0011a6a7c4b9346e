#include "train/saver.h"

#include <utility>

#include "core/text.h"
#include "io/atomic_folder.h"
#include "io/checkpoints.h"
#include "io/file.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

/// Between two tries, and between two warnings, while there is no room.
constexpr std::chrono::seconds kAgain{60};

/// Bytes of the checkpoints that are there already.
std::int64_t checkpoints_bytes(const fs::path& output) {
  std::int64_t bytes = 0;
  for (const Checkpoint& checkpoint : list_checkpoints(output)) {
    bytes += folder_bytes(checkpoint.folder);
  }
  return bytes;
}

}  // namespace

Saver::Saver(const SaveSettings& settings, const RunSchedule& schedule, RunFolder& folder,
             std::string config_yaml, CheckpointWriter writer, Talk talk)
    : settings_(settings),
      schedule_(schedule),
      folder_(folder),
      config_yaml_(std::move(config_yaml)),
      writer_(std::move(writer)),
      talk_(talk),
      checkpoint_bytes_(writer_.checkpoint_bytes(settings.only_model)) {}

void Saver::check_disk_for() const {
  const bool saves = schedule_.save_every() > 0;
  const std::int64_t kept = settings_.total_limit.value_or(
      saves ? (schedule_.steps() + schedule_.save_every() - 1) / schedule_.save_every() : 0);
  check_disk({.checkpoints = saves ? kept : 0,
              .checkpoint_bytes = saves ? checkpoint_bytes_ : 0,
              .model_bytes = writer_.model_bytes(),
              .present_bytes = checkpoints_bytes(folder_.path())},
             folder_.path());
}

bool Saver::due(std::int64_t step) const {
  if (schedule_.save_every() == 0) return false;
  if (schedule_.saves_at(step) || step == schedule_.steps()) return true;
  const auto now = Clock::now();
  if (wanting_ && now - tried_ >= kAgain) return true;
  return settings_.interval &&
         std::chrono::duration<double>(now - last_).count() >= settings_.interval->seconds;
}

bool Saver::save(const Progression& progression) {
  const std::int64_t step = progression.trainer.global_step;
  if (saved_at_ == step) return true;
  tried_ = Clock::now();
  const std::string& run = folder_.run().id();
  const fs::path other = set_aside_other(folder_.path() / fmt::format("checkpoint-{}", step), run);
  if (!other.empty()) {
    talk_.out << fmt::format("checkpoint-{} was damaged or not this run's; it is '{}' now\n", step,
                             other.string());
  }
  try {
    writer_.save(folder_.path(), progression, config_yaml_, run, settings_.only_model);
  } catch (const DiskFull& error) {
    last_ = tried_;
    wanting_ = true;
    warn(error.what(), step);
    return false;
  }
  if (std::exchange(wanting_, false)) {
    talk_.out << fmt::format("step {}: there is room again; checkpoint-{} is written\n", step,
                             step);
  }
  last_ = Clock::now();
  measured_seconds_ = std::chrono::duration<double>(last_ - tried_).count();
  saved_at_ = step;
  if (settings_.total_limit) rotate_checkpoints(folder_.path(), *settings_.total_limit, run);
  return true;
}

void Saver::warn(const std::string& why, std::int64_t step) {
  if (warned_ != Clock::time_point{} && tried_ - warned_ < kAgain) return;
  warned_ = tried_;
  talk_.out << fmt::format(
                   "warning: step {}: no room for a checkpoint of {}: {} Training goes on, the "
                   "earlier checkpoints stay, and it is tried again.\n",
                   step, decimal_bytes(checkpoint_bytes_), why)
            << std::flush;
}

void Saver::save_model(const TrainerState& trainer) const {
  writer_.save_model(folder_.path(), folder_.run(), trainer, config_yaml_);
}

double Saver::seconds() const {
  if (measured_seconds_ > 0) return measured_seconds_;
  return static_cast<double>(checkpoint_bytes_) / kAssumedRate;
}

}  // namespace snug
