#pragma once
// Saving and resuming: `checkpoint-N` folders in transformers' layout with snug's state in
// safetensors and JSON beside the model.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "exec/executor.h"
#include "io/model_writer.h"
#include "io/run_file.h"
#include "plan/recipe.h"
#include "train/loss_scale.h"
#include "train/run_setup.h"
#include "train/trainer_state.h"
#include "train/weights.h"

namespace snug {

/// Where in the data the next step begins.
struct DataPosition {
  std::int64_t epoch = 0;
  std::int64_t step_in_epoch = 0;
  std::int64_t rows = 0;  ///< of the data set
  std::int64_t rows_per_step = 0;
  std::uint64_t fingerprint = 0;  ///< of all tokens and labels, in file order
  bool operator==(const DataPosition&) const = default;
};

/// What goes into a folder beside the weights.
struct SavedModel {
  std::map<std::string, std::string> texts;  ///< config.json or adapter_config.json, and others
  std::filesystem::path tokenizer_source;    ///< empty: no tokenizer files
};

/// What a run of these settings saves beside its weights.
SavedModel saved_model(const ModelSource& model, const Settings& settings,
                       const ParameterTable& parameters);

/// A training run's state outside the arenas.
struct Progression {
  TrainerState trainer;
  DataPosition data;
  std::int64_t applied = 0;  ///< updates applied: t and the schedule count these
  std::int64_t seed = 0;
  /// computed_on() of the run that wrote it; empty where it is not known.
  std::string computed_on;
  double learning_rate = 0;
  std::string recompute;  ///< activation_checkpointing as it was chosen; empty: not known
  std::optional<LossScale> loss_scale;  ///< of fp16
};

/// Saves weights and state of an executor's run-scoped values.
class CheckpointWriter {
 public:
  /// All must outlive the writer.
  CheckpointWriter(const Recipe& recipe, const Executor& executor, SavedModel model);

  /// Bytes of one checkpoint, and of the final model.
  std::int64_t checkpoint_bytes(bool only_model) const;
  std::int64_t model_bytes() const;

  /// Writes OUTPUT/checkpoint-STEP aside, with checksums of all that is in it, makes it durable and
  /// renames it. `run` says whose it is; `only_model`: without the state that going on needs.
  /// Returns the folder. DiskFull where there is no room.
  std::filesystem::path save(const std::filesystem::path& output, const Progression& progression,
                             const std::string& config_yaml, const std::string& run,
                             bool only_model) const;
  /// Writes the final model into the run's folder `output`, as a whole.
  void save_model(const std::filesystem::path& output, RunFile& run, const TrainerState& trainer,
                  const std::string& config_yaml) const;

 private:
  FileChecksums write_state(const std::filesystem::path& folder) const;
  ModelFolderWriter folder_writer(std::map<std::string, std::string> texts) const;
  FolderChecksums write_weights(const ModelFolderWriter& writer,
                                const std::filesystem::path& folder) const;
  const Recipe& recipe_;
  const Executor& executor_;
  SavedModel model_;
  SavedWeights weights_;
};

/// Reads a checkpoint's weights and state into the executor's values and returns where it stood. An
/// adapter's base comes from `model`. UserError when a file is damaged or of another model.
Progression load_checkpoint(const std::filesystem::path& folder, const ModelSource& model,
                            const Recipe& recipe, const Executor& executor, ThreadPool& pool);

/// The position alone; what decides whether a checkpoint can be used at all.
Progression read_progression(const std::filesystem::path& folder);

}  // namespace snug
