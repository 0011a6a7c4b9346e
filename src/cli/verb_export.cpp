#include <fmt/ostream.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "cli/verbs.h"
#include "core/text.h"
#include "train/export_model.h"
#include "train/run_setup.h"

namespace snug {

int run_export(const Command& command, Console& console) {
  const auto start = std::chrono::steady_clock::now();
  const ExportResult result = export_model(command.settings);
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  for (const std::string& note : result.notes) fmt::print(console.talk, "{}\n", note);
  if (command.json) {
    const nlohmann::ordered_json json = {{"schema", 1},
                                         {"path", result.path.string()},
                                         {"type", result.type},
                                         {"tensors", result.tensors},
                                         {"bytes", result.bytes},
                                         {"seconds", taken.count()},
                                         {"peak_bytes", peak_resident_bytes()},
                                         {"notes", result.notes}};
    fmt::print(console.out, "{}\n", json.dump());
  } else {
    fmt::print(console.out, "{} · {} · {} tensors · {} in {:.1f} s\n", result.path.string(),
               result.type, result.tensors, decimal_bytes(result.bytes), taken.count());
  }
  return kDone;
}

}  // namespace snug
