#pragma once
// A run's folder: which it is, and what it goes on from.

#include <filesystem>
#include <string>

#include "core/settings.h"
#include "train/progress.h"
#include "train/run_setup.h"

namespace snug {

class RunFolder {
 public:
  /// Finds output_dir and the checkpoint to go on from; touches nothing. UserError when the folder
  /// holds another run.
  RunFolder(const Settings& settings, const ModelSource& model, const std::string& data, Talk talk);

  const std::filesystem::path& path() const { return path_; }
  /// The checkpoint to go on from; empty: none.
  const std::filesystem::path& resume_from() const { return resume_from_; }
  /// Makes the folder and removes what killed runs left in it.
  void make() const;

 private:
  std::filesystem::path path_;
  std::filesystem::path resume_from_;
};

/// The default output folder: runs/MODEL-DATA, or with -2, -3, ... when that is taken.
std::filesystem::path default_output_dir(const std::string& model, const std::string& data);

}  // namespace snug
