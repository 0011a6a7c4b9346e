#pragma once
// How many of the demo's questions a model answers rightly.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "cli/demo_task.h"
#include "core/settings.h"

namespace snug {

struct DemoScore {
  std::vector<std::string> answers;  ///< as generated, one a question
  std::int64_t right = 0;
  double seconds = 0;  ///< of generating
  double percent() const {
    return answers.empty()
               ? 0
               : 100.0 * static_cast<double>(right) / static_cast<double>(answers.size());
  }
};

/// Asks the model in `folder` every question, greedily.
DemoScore score_demo(const std::filesystem::path& folder, std::span<const DemoQuestion> questions,
                     const Settings& settings);

}  // namespace snug
