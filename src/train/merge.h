#pragma once
// Merging an adapter into its base, tensor by tensor.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/settings.h"

namespace snug {

struct MergeResult {
  std::int64_t tensors = 0;        ///< written
  std::int64_t merged = 0;         ///< with an adapter added
  std::int64_t replaced = 0;       ///< by the adapter's own copies
  std::int64_t bytes = 0;          ///< of the folder
  std::vector<std::string> notes;  ///< what the base's files are other than its config.json says
};

/// Writes the base of `settings` (see with_adapter) with its adapter merged to `output`, which must
/// not exist: W + s B A, with DoRA m / |row| times that, summed in fp32 and rounded once to the
/// base's type; everything else byte by byte. Quantised weights, stored or asked for, count as the
/// values they stand for, and are written as these. Holds one tensor's pages, the adapter's tensors
/// of one module and a block of rows at a time. A tied head that differs afterwards is written
/// apart. UserError when adapter and base do not fit.
MergeResult merge_adapter(const Settings& settings, const std::filesystem::path& output);

}  // namespace snug
