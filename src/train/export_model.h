#pragma once
// `export`: a trained model for other programs, streamed tensor by tensor.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/settings.h"

namespace snug {

struct ExportResult {
  std::filesystem::path path;  ///< the folder, or the GGUF file
  std::string type;            ///< of the matrices, as GGUF spells it: `BF16`
  std::int64_t tensors = 0;
  std::int64_t bytes = 0;  ///< of all files
  /// Where the export is not the whole of the model, a sentence each.
  std::vector<std::string> notes;
};

/// Writes the model of model_name_or_path into output_dir as the export settings say. Nothing that
/// is there is touched, and nothing half written stays. Holds at most one stored tensor and some
/// MiB. UserError for what cannot be exported, before anything is written.
ExportResult export_model(const Settings& settings);

}  // namespace snug
