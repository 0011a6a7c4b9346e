#pragma once
// A run's folder: which it is, whose, and what the run goes on from.

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/settings.h"
#include "io/folder_lock.h"
#include "io/run_file.h"
#include "train/progress.h"
#include "train/run_setup.h"

namespace snug {

/// Locked for its life, so that no two processes write one folder. A folder that was made and then
/// not begun goes away again.
class RunFolder {
 public:
  static constexpr const char* kLock = "run.lock";

  /// Finds output_dir, locks it and finds the checkpoint to go on from. UserError, before anything
  /// is touched, when the folder is the model's own, holds a model or other files that the run
  /// would write, or holds a run that is not to be gone on with; and when another process writes
  /// it.
  RunFolder(const Settings& settings, const ModelSource& model, const std::string& data, Talk talk);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// The checkpoint to go on from; empty: none.
  const std::filesystem::path& resume_from() const { return resume_from_; }
  /// Marks the folder as the run's, ends a change of its model that was cut off, and removes what
  /// killed processes of the run left.
  void begin();
  /// Valid once begun.
  RunFile& run() { return *run_; }
  /// Whether the folder holds a model that the run has finished.
  bool has_model() const { return run_ && !run_->model().empty(); }

 private:
  void find(const Settings& settings, const ModelSource& model, const std::string& data);
  void refuse_models_folder(const ModelSource& model) const;
  void refuse_foreign(const Resume& resume) const;
  void choose_checkpoint(const Resume& resume, Talk talk);
  void resume_latest(bool needed, Talk talk);
  void start_afresh(Talk talk) const;

  std::filesystem::path path_;
  std::filesystem::path resume_from_;
  bool made_ = false;
  bool begun_ = false;
  std::unique_ptr<FolderLock> lock_;
  std::optional<RunFile> run_;
};

}  // namespace snug
