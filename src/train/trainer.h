#pragma once
// A training run from settings to saved model.

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/settings.h"
#include "train/checkpoint.h"
#include "train/progress.h"
#include "train/request.h"
#include "train/run_folder.h"
#include "train/run_schedule.h"
#include "train/run_setup.h"
#include "train/saver.h"
#include "train/step_runner.h"
#include "train/stop_signals.h"

namespace snug {

/// What a run came to.
struct TrainResult {
  std::int64_t steps = 0;
  double first_loss = 0;
  double last_loss = 0;
  double eval_loss = 0;  ///< of the last evaluation; 0 without one
  double seconds = 0;    ///< of the steps alone
  std::int64_t tokens = 0;
  std::int64_t padded_tokens = 0;  ///< the same with padding
  std::int64_t planned_peak_bytes = 0;
  std::int64_t used_peak_bytes = 0;
  /// Of the programs that were played, by the plan; less than planned_peak_bytes where no batch
  /// came of a length (absent_lengths) that needs more.
  std::int64_t played_peak_bytes = 0;
  std::vector<std::int64_t> absent_lengths;
  /// What the process was planned to need, the arena included; 0 where the arena is a card's.
  std::int64_t needed_bytes = 0;
  std::int64_t peak_rss_bytes = 0;  ///< with what it maps of files
  std::int64_t held_bytes = 0;      ///< what needed_bytes bounds, at the end
  std::filesystem::path output_dir;
  int signal = 0;  ///< that stopped it; else 0
  double tokens_per_second() const {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
  }
};

/// `arena 19.09 MiB planned, 19.09 MiB used · process 57.05 MiB planned, 54.34 MiB at most`
std::string describe_memory(const TrainResult& result);
/// Called, in a thread of its own, when a signal ends the run in the middle of a step; ends the
/// process.
using StopAtOnce = std::function<void(const TrainResult&)>;

class Trainer {
 public:
  /// Opens model and data, chooses the recipe and checks everything that can be checked before
  /// memory is reserved. DoesNotFit when no recipe fits.
  /// Without `at_once`, the process ends with 128 + the signal.
  Trainer(Settings settings, Talk talk, StopAtOnce at_once = {});
  ~Trainer();

  const RunRequest& request() const { return request_; }
  const Recipe& recipe() const { return *recipe_; }
  const DatasetCounts& counts() const { return data_.train.counts(); }

  /// Reserves memory, loads and trains.
  TrainResult run();
  /// Steps done so far.
  std::int64_t steps_done() const { return step_now_; }
  const std::filesystem::path& output_dir() const { return folder_->path(); }

 private:
  void choose();
  void set_schedule();
  void print_header() const;
  void start();
  void load_start_state();
  void check_resumed(const Progression& before) const;
  void print_changes(const Progression& before) const;
  void train_step();
  void train_steps(StopSignals& signals);
  void stop_in_middle(int signal, double seconds);
  void print_remarks();
  void print_stop_figure() const;
  void print_finished() const;
  void print_stopped_at_once(const TrainResult& result, double seconds) const;
  std::string resume_command() const;
  void after_step(const StepOutcome& outcome, double learning_rate, double seconds);
  void log(double learning_rate, double grad_norm);
  void evaluate();
  bool owes_evaluation() const;
  void write_state();
  void say_disk_full();
  void write_metrics(const StepOutcome& outcome, double learning_rate, double seconds);
  void print_end(const TrainResult& result) const;
  std::string effective_config() const;

  Settings settings_;
  Talk talk_;
  ModelSource model_;
  DataSource data_;
  RunRequest request_;
  std::unique_ptr<Recipe> recipe_;
  std::string recipe_note_;  ///< how it differs from the resumed run's
  std::unique_ptr<RunFolder> folder_;
  std::unique_ptr<RunSchedule> schedule_;

  // Alive while running.
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<StepRunner> runner_;
  std::unique_ptr<Saver> saver_;
  std::unique_ptr<MetricsFile> metrics_;
  std::unique_ptr<Progress> progress_;
  Progression at_;
  TrainResult result_;
  double loss_since_log_ = 0;
  std::int64_t steps_since_log_ = 0;
  std::int64_t steps_timed_ = 0;
  std::int64_t skipped_in_a_row_ = 0;
  double step_seconds_ = 0;  ///< of the longest of the latest steps; 0 before the first
  double eval_seconds_ = 0;
  std::optional<Progression> before_;  ///< where the checkpoint that the run goes on from stood
  std::atomic<std::int64_t> step_now_{0};
  bool said_disk_full_ = false;
  StopAtOnce at_once_;
};

/// What a run's bits depend on beside its settings: back end and instruction set.
std::string computed_on(const Target& target);

/// A number that differs when any token or label does.
std::uint64_t fingerprint(const Dataset& data);

}  // namespace snug
