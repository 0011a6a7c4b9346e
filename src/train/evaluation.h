#pragma once
// Evaluation without training: the chunked loss of a model on data.

#include <cstdint>

#include "core/settings.h"
#include "train/progress.h"

namespace snug {

struct EvaluationResult {
  double loss = 0;
  double perplexity = 0;
  std::int64_t rows = 0;
  std::int64_t labels = 0;
  double seconds = 0;
  std::int64_t planned_peak_bytes = 0;
  std::int64_t used_peak_bytes = 0;
};

/// Loads model_name_or_path and gives the mean cross-entropy of eval_file's labels (train_file's
/// where no eval_file is named). Weights keep their stored type.
EvaluationResult evaluate_model(const Settings& settings, Talk talk);

}  // namespace snug
