#include <fmt/ostream.h>

#include <nlohmann/json.hpp>

#include "cli/verbs.h"
#include "core/error.h"
#include "core/text.h"
#include "train/merge.h"
#include "train/merge_check.h"
#include "train/run_setup.h"

namespace snug {

namespace {

nlohmann::ordered_json json_of(const LogitsDifference& logits) {
  return {{"samples", logits.samples},
          {"mean", logits.mean},
          {"largest", logits.largest},
          {"typical", logits.typical},
          {"same_choices", logits.same_choices}};
}

std::string text_of(const LogitsDifference& logits) {
  return fmt::format(
      "logits against base and adapter apart, {} samples: differ by {:.2g} in the mean, {:.2g} at "
      "most, of {:.2g} · likeliest token the same in {}",
      logits.samples, logits.mean, logits.largest, logits.typical, logits.same_choices);
}

}  // namespace

int run_merge(const Command& command, Console& console) {
  const std::string output = *command.settings.run.output_dir;
  const MergeResult result = merge_adapter(command.settings, output);
  for (const std::string& note : result.notes) fmt::print(console.talk, "{}\n", note);
  nlohmann::ordered_json json = {{"schema", 1},
                                 {"output_dir", output},
                                 {"tensors", result.tensors},
                                 {"merged", result.merged},
                                 {"replaced", result.replaced},
                                 {"bytes", result.bytes},
                                 {"notes", result.notes},
                                 {"peak_rss_bytes", peak_resident_bytes()}};
  fmt::print(command.json ? console.talk : console.out,
             "{}: {} tensors, {} merged, {} replaced · {} · process at most {}\n", output,
             result.tensors, result.merged, result.replaced, binary_bytes(result.bytes),
             binary_bytes(peak_resident_bytes()));
  if (!command.settings.data.train_files.empty()) {
    const LogitsDifference logits = compare_merged(command.settings, output);
    json["logits"] = json_of(logits);
    fmt::print(command.json ? console.talk : console.out, "{}\n", text_of(logits));
  }
  if (command.json) fmt::print(console.out, "{}\n", json.dump());
  return kDone;
}

}  // namespace snug
