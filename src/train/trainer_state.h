#pragma once
// trainer_state.json as transformers' Trainer writes it, and metrics.jsonl.

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace snug {

/// The run's position and history. Written into every checkpoint and into output_dir.
class TrainerState {
 public:
  std::int64_t global_step = 0;
  std::int64_t max_steps = 0;
  double num_train_epochs = 0;
  double epoch = 0;
  std::int64_t logging_steps = 0;
  std::int64_t eval_steps = 0;
  std::int64_t save_steps = 0;
  std::int64_t train_batch_size = 0;
  std::int64_t num_input_tokens_seen = 0;
  double total_flos = 0;

  /// A row of log_history; `epoch` and `step` are added.
  void log(nlohmann::json row);
  const nlohmann::json& history() const { return history_; }

  /// Indent 2, sorted keys, final newline.
  std::string to_json() const;
  /// UserError naming `where` when keys are missing or of another type.
  static TrainerState from_json(const std::string& text, const std::string& where);

 private:
  nlohmann::json history_ = nlohmann::json::array();
};

/// metrics.jsonl: one object a step, handed to the system line by line.
class MetricsFile {
 public:
  /// Appends to `path`; lines of steps after `last_step` (of a run that was cut off) and unfinished
  /// ones are removed, by a file that takes the place of the old one once it is whole.
  MetricsFile(const std::filesystem::path& path, std::int64_t last_step);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

  /// False while the disk is full: then up to 1 MiB of rows wait for room, and older ones go.
  bool write(const nlohmann::ordered_json& row);

 private:
  std::filesystem::path path_;
  int handle_ = -1;
  std::string waiting_;  ///< not in the file yet; may begin within a line
};

}  // namespace snug
