#include "train/run_folder.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <system_error>

#include "core/error.h"
#include "core/text.h"
#include "io/atomic_folder.h"
#include "io/checkpoints.h"
#include "io/checksums.h"
#include "train/checkpoint.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

/// What a run writes besides checkpoints and the model.
constexpr auto kRunFiles =
    std::to_array<std::string_view>({"config.yaml", "metrics.jsonl", "trainer_state.json"});

std::string quoted(const fs::path& path) { return fmt::format("'{}'", path.string()); }

/// runs/MODEL-DATA, or with -2, -3, ... when that is taken: made here, so that no other start takes
/// the same.
fs::path reserve_folder(const std::string& base) {
  fs::path candidate = base;
  for (int n = 2; !make_new_folder(candidate); ++n) candidate = fmt::format("{}-{}", base, n);
  return candidate;
}

bool same_folder(const fs::path& a, const fs::path& b) {
  std::error_code error;
  return !a.empty() && !b.empty() && fs::equivalent(a, b, error);
}

}  // namespace

RunFolder::RunFolder(const Settings& settings, const ModelSource& model, const std::string& data,
                     Talk talk) {
  const Resume& resume = settings.run.resume;
  try {
    find(settings, model, data);
    lock_ = std::make_unique<FolderLock>(path_ / kLock, quoted(path_));
    if (!lock_->locks()) {
      talk.out << fmt::format(
          "warning: the file system of {} has no locks: nothing keeps a second process from "
          "writing there too\n",
          quoted(path_));
    }
    run_ = RunFile::read(path_);
    refuse_foreign(resume);
    choose_checkpoint(resume, talk);
  } catch (...) {
    // A constructor that throws has no destructor.
    if (lock_ != nullptr && lock_->made()) lock_->remove();
    std::error_code not_empty;
    if (made_) fs::remove(path_, not_empty);
    throw;
  }
}

RunFolder::~RunFolder() {
  if (begun_) return;
  if (lock_->made()) lock_->remove();
  std::error_code not_empty;
  if (made_) fs::remove(path_, not_empty);
}

void RunFolder::find(const Settings& settings, const ModelSource& model, const std::string& data) {
  if (settings.run.output_dir) {
    path_ = *settings.run.output_dir;
  } else {
    const std::string base = fmt::format("runs/{}-{}", model.name, data);
    if (settings.run.resume.latest || settings.run.resume.automatic) {
      path_ = base;
    } else {
      path_ = reserve_folder(base);
      made_ = true;
    }
  }
  refuse_models_folder(model);
  if (made_) return;
  // What stands in a folder that a run is writing says nothing yet; its lock does.
  if (!fs::exists(path_ / kLock)) {
    run_ = RunFile::read(path_);
    refuse_foreign(settings.run.resume);
  }
  made_ = make_new_folder(path_);
}

void RunFolder::refuse_models_folder(const ModelSource& model) const {
  for (const fs::path& folder : {model.folder, model.adapter}) {
    if (!same_folder(folder, path_)) continue;
    user_error("output_dir {} is the model's own folder ('{}'). Name another output_dir.",
               quoted(path_), folder.string());
  }
}

/// UserError when the folder holds what the run would write and is not its own.
void RunFolder::refuse_foreign(const Resume& resume) const {
  std::error_code absent;
  bool has_run_files = false;
  for (const auto& entry : fs::directory_iterator(path_, absent)) {
    const std::string name = entry.path().filename().string();
    if (is_model_file(name) && !(run_ && run_->owns(name))) {
      user_error(
          "{} holds a model or a part of one that no run of snug put there ('{}'). Name "
          "another output_dir.",
          quoted(path_), name);
    }
    has_run_files |= std::find(kRunFiles.begin(), kRunFiles.end(), name) != kRunFiles.end();
  }
  if (run_ || !has_run_files) return;
  if (!list_checkpoints(path_).empty() && resume.wanted()) return;
  user_error(
      "{} holds a run already, or files of the names that one writes ({}). Continue it with "
      "resume_from_checkpoint=true, or name another output_dir.",
      quoted(path_), fmt::join(kRunFiles, ", "));
}

void RunFolder::choose_checkpoint(const Resume& resume, Talk talk) {
  if (resume.folder.empty()) {
    if (resume.latest || resume.automatic) return resume_latest(resume.latest, talk);
    return start_afresh(talk);
  }
  resume_from_ = resume.folder;
  if (!fs::is_directory(resume_from_)) {
    user_error("resume_from_checkpoint: '{}' is no folder.", resume.folder);
  }
  check_checkpoint(resume_from_);
  const std::string run = run_of(resume_from_);
  for (const Checkpoint& other : list_checkpoints(path_)) {
    if (run_of(other.folder) == run) continue;
    user_error("{} holds checkpoints of another run ('{}'). Name another output_dir.",
               quoted(path_), other.folder.filename().string());
  }
  if (has_model() && run_->id() != run) {
    user_error("{} holds the model of another run. Name another output_dir.", quoted(path_));
  }
}

void RunFolder::resume_latest(bool needed, Talk talk) {
  const LatestCheckpoint latest = latest_checkpoint(path_, [](const fs::path& folder) {
    check_checkpoint(folder);
    read_progression(folder);
  });
  for (const std::string& why : latest.skipped) talk.out << "skipped: " << why << "\n";
  if (latest.found) {
    resume_from_ = latest.found->folder;
  } else if (needed || !latest.skipped.empty()) {
    user_error("resume_from_checkpoint={}: {} holds no checkpoint that loads{}.",
               needed ? "true" : "auto", quoted(path_),
               latest.skipped.empty() ? "; without that key the run starts" : "");
  } else {
    start_afresh(talk);
  }
}

void RunFolder::start_afresh(Talk talk) const {
  const auto checkpoints = list_checkpoints(path_);
  if (!checkpoints.empty() || has_model()) {
    user_error("{} holds a run already. {}ame another output_dir.", quoted(path_),
               checkpoints.empty() ? "N" : "Continue it with resume_from_checkpoint=true, or n");
  }
  if (run_) {
    talk.out << fmt::format(
        "{} holds a run that ended before its first checkpoint: it starts over\n", quoted(path_));
  }
}

void RunFolder::begin() {
  begun_ = true;
  if (!run_) run_.emplace(path_, resume_from_.empty() ? "" : run_of(resume_from_));
  run_->save();
  run_->finish_model();
  remove_leftovers(path_);
}

}  // namespace snug
