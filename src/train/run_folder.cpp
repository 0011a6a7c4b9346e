#include "train/run_folder.h"

#include "core/error.h"
#include "io/atomic_folder.h"
#include "io/checkpoints.h"

namespace snug {

namespace fs = std::filesystem;

fs::path default_output_dir(const std::string& model, const std::string& data) {
  const std::string base = fmt::format("runs/{}-{}", model, data);
  fs::path candidate = base;
  for (int n = 2; fs::exists(candidate); ++n) candidate = fmt::format("{}-{}", base, n);
  return candidate;
}

RunFolder::RunFolder(const Settings& settings, const ModelSource& model, const std::string& data,
                     Talk talk)
    : path_(settings.run.output_dir ? fs::path(*settings.run.output_dir)
                                    : default_output_dir(model.name, data)) {
  const Resume& resume = settings.run.resume;
  if (!resume.folder.empty()) {
    resume_from_ = resume.folder;
    if (!fs::is_directory(resume_from_)) {
      user_error("resume_from_checkpoint: '{}' is no folder.", resume.folder);
    }
  } else if (resume.latest) {
    const LatestCheckpoint latest = latest_checkpoint(path_);
    for (const std::string& why : latest.skipped) talk.out << "skipped: " << why << "\n";
    if (!latest.found) {
      user_error("resume_from_checkpoint=true: '{}' holds no checkpoint that loads.",
                 path_.string());
    }
    resume_from_ = latest.found->folder;
  } else if (fs::exists(path_ / "metrics.jsonl") || !list_checkpoints(path_).empty()) {
    user_error(
        "'{}' holds a run already. Continue it with resume_from_checkpoint=true, or name "
        "another output_dir.",
        path_.string());
  }
}

void RunFolder::make() const {
  if (fs::exists(path_)) remove_leftovers(path_);
  make_folders(path_);
}

}  // namespace snug
