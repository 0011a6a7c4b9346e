#pragma once
// A training run from settings to saved model.

#include <cstdint>
#include <filesystem>
#include <memory>
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
  std::int64_t peak_rss_bytes = 0;
  std::filesystem::path output_dir;
  int signal = 0;  ///< that stopped it after a finished, saved step; else 0
  double tokens_per_second() const {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
  }
};

/// `arena 19.09 MiB planned, 19.09 MiB used · process 57.05 MiB planned, 54.34 MiB at most`
std::string describe_memory(const TrainResult& result);

class Trainer {
 public:
  /// Opens model and data, chooses the recipe and checks everything that can be checked before
  /// memory is reserved. DoesNotFit when no recipe fits.
  Trainer(Settings settings, Talk talk);
  ~Trainer();

  const RunRequest& request() const { return request_; }
  const Recipe& recipe() const { return *recipe_; }
  const DatasetCounts& counts() const { return data_.train.counts(); }

  /// Reserves memory, loads and trains.
  TrainResult run();

 private:
  void choose();
  void set_schedule();
  void print_header() const;
  void start();
  void load_start_state();
  void check_resumed(const Progression& before) const;
  void print_changes(const Progression& before) const;
  void train_step();
  void print_remarks();
  void after_step(const StepOutcome& outcome, double learning_rate, double seconds);
  void log(double learning_rate, double grad_norm);
  void evaluate();
  void write_metrics(const StepOutcome& outcome, double learning_rate, double seconds);
  void print_end(const TrainResult& result) const;
  std::string effective_config() const;

  Settings settings_;
  Talk talk_;
  ModelSource model_;
  DataSource data_;
  RunRequest request_;
  std::unique_ptr<Recipe> recipe_;
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
};

/// What a run's bits depend on beside its settings: back end and instruction set.
std::string computed_on(const Target& target);

/// A number that differs when any token or label does.
std::uint64_t fingerprint(const Dataset& data);

}  // namespace snug
