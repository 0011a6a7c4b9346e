#pragma once
// run.json: whose an output folder is, and which files of the model in it are that run's.

#include <filesystem>
#include <optional>
#include <set>
#include <string>

#include "io/atomic_folder.h"

namespace snug {

class RunFile {
 public:
  static constexpr const char* kName = "run.json";

  /// The folder's; none where there is none. UserError when it is damaged.
  static std::optional<RunFile> read(const std::filesystem::path& folder);
  /// For a folder that has none, of the run `id`; empty: a new one. Written by `save`.
  RunFile(std::filesystem::path folder, std::string id);

  const std::string& id() const { return id_; }
  /// The names of the model in the folder that this run wrote; empty: none yet.
  const std::set<std::string>& model() const { return model_; }
  bool owns(const std::string& name) const {
    return model_.contains(name) || incoming_.contains(name);
  }
  void save() const;

  /// Puts the files of `aside`, a folder `.NAME.tmp` in this one, in the place of the model that
  /// the run wrote before. The config goes first and comes last, so that at no moment the folder
  /// holds a model of which not every file is the same save's; cut off at any moment,
  /// `finish_model` goes on. UserError when a file that is not the run's has one of the names; the
  /// new files then stay aside.
  void replace_model(AtomicFolder& aside);
  /// Ends what was cut off.
  void finish_model();

 private:
  void place(const std::filesystem::path& aside);
  std::filesystem::path folder_;
  std::string id_;
  std::set<std::string> model_;
  std::set<std::string> incoming_;  ///< decided, perhaps not all in place
  std::string aside_;               ///< the folder in which they lie
};

/// Names of files that only a model has: weights, configs, a tokenizer.
bool is_model_file(const std::string& name);

}  // namespace snug
