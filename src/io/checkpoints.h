#pragma once
// The `checkpoint-N` folders of a run: which is the latest good one, which go, what disk they need.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/function_ref.h"

namespace snug {

struct Checkpoint {
  std::filesystem::path folder;
  std::int64_t step = 0;
};

/// The folders called `checkpoint-N` in `output_dir`, by rising N. None where it does not exist.
std::vector<Checkpoint> list_checkpoints(const std::filesystem::path& output_dir);

/// UserError unless all files of the checkpoint are whole: trainer_state.json is there, every JSON
/// file parses, every safetensors file matches its header, every shard of an index is there, and
/// everything is what was written, by its checksums.
void check_checkpoint(const std::filesystem::path& folder);

/// The latest checkpoint that passes `loads`, and why later ones did not.
struct LatestCheckpoint {
  std::optional<Checkpoint> found;
  std::vector<std::string> skipped;
};

/// `loads` throws UserError for a checkpoint that cannot be used.
LatestCheckpoint latest_checkpoint(const std::filesystem::path& output_dir,
                                   FunctionRef<void(const std::filesystem::path&)> loads);
/// With check_checkpoint as the judge.
LatestCheckpoint latest_checkpoint(const std::filesystem::path& output_dir);

/// Removes the oldest checkpoints of `run` until `limit` are left, but never the newest. Those of
/// other runs neither count nor go. A limit of 0 keeps all.
void rotate_checkpoints(const std::filesystem::path& output_dir, std::int64_t limit,
                        const std::string& run);

/// Where a checkpoint that is not of `run` has the name of `target`, it gets another. Returns that,
/// or an empty path.
std::filesystem::path set_aside_other(const std::filesystem::path& target, const std::string& run);

/// Bytes of all files in a folder and below.
std::int64_t folder_bytes(const std::filesystem::path& folder);

/// The disk that a run needs.
struct DiskNeed {
  std::int64_t checkpoints = 0;  ///< that are kept at a time
  std::int64_t checkpoint_bytes = 0;
  std::int64_t model_bytes = 0;    ///< the final model
  std::int64_t present_bytes = 0;  ///< of checkpoints that are there already and will be replaced

  /// The kept checkpoints, one being written, the model. Saturates at 2^63-1.
  std::int64_t total() const;
  /// `disk: 2 checkpoints × 96.4 GB + one in writing + model 16.1 GB = 305.3 GB, free 212 GB`
  std::string line(std::int64_t free_bytes) const;
};

/// UserError with that line when the disk of `output_dir` is too small.
void check_disk(const DiskNeed& need, const std::filesystem::path& output_dir);

}  // namespace snug
