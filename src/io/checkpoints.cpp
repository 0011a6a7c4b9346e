#include "io/checkpoints.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "io/atomic_folder.h"
#include "io/checksums.h"
#include "io/file.h"
#include "io/model_files.h"
#include "io/safetensors.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "checkpoint-";

/// N of `checkpoint-N`.
std::optional<std::int64_t> step_of(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  std::int64_t step = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
  if (error != std::errc() || end != name.data() + name.size() || step < 0) return std::nullopt;
  return step;
}

}  // namespace

std::vector<Checkpoint> list_checkpoints(const fs::path& output_dir) {
  std::vector<Checkpoint> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(output_dir, error)) {
    const auto step = step_of(entry.path().filename().string());
    if (entry.is_directory() && step) found.push_back({entry.path(), *step});
  }
  std::sort(found.begin(), found.end(),
            [](const Checkpoint& a, const Checkpoint& b) { return a.step < b.step; });
  return found;
}

void check_checkpoint(const fs::path& folder) {
  if (!fs::exists(folder / "trainer_state.json")) {
    user_error("{}: no trainer_state.json, so no checkpoint.", folder.string());
  }
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string extension = entry.path().extension().string();
    if (extension == ".json") parse_json(read_text(entry.path()), entry.path().string());
    if (extension == ".safetensors") const SafetensorsFile whole(entry.path());
  }
  if (fs::exists(folder / "model.safetensors.index.json")) const ModelWeights whole(folder);
  verify_checksums(folder);
}

LatestCheckpoint latest_checkpoint(const fs::path& output_dir,
                                   FunctionRef<void(const fs::path&)> loads) {
  LatestCheckpoint latest;
  auto all = list_checkpoints(output_dir);
  for (auto candidate = all.rbegin(); candidate != all.rend(); ++candidate) {
    try {
      loads(candidate->folder);
      latest.found = *candidate;
      return latest;
    } catch (const UserError& error) {
      latest.skipped.emplace_back(error.what());
    }
  }
  return latest;
}

LatestCheckpoint latest_checkpoint(const fs::path& output_dir) {
  return latest_checkpoint(output_dir, [](const fs::path& folder) { check_checkpoint(folder); });
}

void rotate_checkpoints(const fs::path& output_dir, std::int64_t limit, const std::string& run) {
  if (limit <= 0) return;
  std::vector<Checkpoint> ours = list_checkpoints(output_dir);
  std::erase_if(ours, [&](const Checkpoint& each) { return run_of(each.folder) != run; });
  const auto left = static_cast<std::int64_t>(ours.size());
  for (std::int64_t i = 0; i < left - limit; ++i) {
    remove_folder(ours[static_cast<std::size_t>(i)].folder);
  }
}

fs::path set_aside_other(const fs::path& target, const std::string& run) {
  if (!fs::exists(target) || run_of(target) == run) return {};
  for (int n = 1;; ++n) {
    const fs::path other = fmt::format("{}.other-{}", target.string(), n);
    if (fs::exists(fs::symlink_status(other))) continue;
    fs::rename(target, other);
    return other;
  }
}

std::int64_t folder_bytes(const fs::path& folder) {
  std::int64_t total = 0;
  std::error_code error;
  for (const auto& entry : fs::recursive_directory_iterator(folder, error)) {
    if (entry.is_regular_file()) total += static_cast<std::int64_t>(entry.file_size());
  }
  return total;
}

std::int64_t DiskNeed::total() const {
  std::int64_t total = 0;
  if (__builtin_mul_overflow(checkpoints + 1, checkpoint_bytes, &total) ||
      __builtin_add_overflow(total, model_bytes, &total)) {
    return std::numeric_limits<std::int64_t>::max();
  }
  return total;
}

std::string DiskNeed::line(std::int64_t free_bytes) const {
  const std::string present =
      present_bytes == 0 ? "" : fmt::format(" ({} there already)", decimal_bytes(present_bytes));
  return fmt::format("disk: {} checkpoint{} × {} + one in writing + model {} = {}{}, free {}",
                     checkpoints, checkpoints == 1 ? "" : "s", decimal_bytes(checkpoint_bytes),
                     decimal_bytes(model_bytes), decimal_bytes(total()), present,
                     decimal_bytes(free_bytes));
}

void check_disk(const DiskNeed& need, const fs::path& output_dir) {
  const std::int64_t free = free_disk_bytes(output_dir);
  if (need.total() - need.present_bytes <= free) return;
  user_error("{}. Lower save_total_limit, free some space, or choose another output_dir.",
             need.line(free));
}

}  // namespace snug
