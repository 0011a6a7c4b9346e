#include <fmt/ostream.h>

#include <nlohmann/json.hpp>

#include "cli/verbs.h"
#include "core/error.h"
#include "core/settings_load.h"
#include "core/text.h"
#include "train/merge.h"
#include "train/run_setup.h"

namespace snug {

int run_merge(const Command& command, Console& console) {
  require_setting(command.settings, "model_name_or_path", "merge");
  require_setting(command.settings, "output_dir", "merge");
  const std::string output = *command.settings.run.output_dir;
  const MergeResult result = merge_adapter(command.settings, output);
  if (command.json) {
    const nlohmann::ordered_json json = {{"schema", 1},
                                         {"output_dir", output},
                                         {"tensors", result.tensors},
                                         {"merged", result.merged},
                                         {"replaced", result.replaced},
                                         {"bytes", result.bytes},
                                         {"peak_rss_bytes", peak_resident_bytes()}};
    fmt::print(console.out, "{}\n", json.dump());
  } else {
    fmt::print(console.out, "{}: {} tensors, {} merged, {} replaced · {} · process at most {}\n",
               output, result.tensors, result.merged, result.replaced, binary_bytes(result.bytes),
               binary_bytes(peak_resident_bytes()));
  }
  return kDone;
}

}  // namespace snug
