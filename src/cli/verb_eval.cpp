#include <fmt/ostream.h>

#include <nlohmann/json.hpp>

#include "cli/verbs.h"
#include "core/error.h"
#include "core/settings_load.h"
#include "train/evaluation.h"

namespace snug {

int run_eval(const Command& command, Console& console) {
  require_setting(command.settings, "model_name_or_path", "eval");
  if (command.settings.data.eval_files.empty() && command.settings.data.train_files.empty()) {
    user_error("eval needs data: eval_file=FILE (or data=FILE).");
  }
  const EvaluationResult result =
      evaluate_model(command.settings, {console.talk, console.talk_terminal.descriptor});
  if (command.json) {
    const nlohmann::ordered_json json = {{"schema", 1},
                                         {"eval_loss", result.loss},
                                         {"perplexity", result.perplexity},
                                         {"rows", result.rows},
                                         {"labels", result.labels},
                                         {"seconds", result.seconds},
                                         {"planned_peak_bytes", result.planned_peak_bytes},
                                         {"used_peak_bytes", result.used_peak_bytes}};
    fmt::print(console.out, "{}\n", json.dump());
  } else {
    fmt::print(console.out, "eval_loss {:.4f} · perplexity {:.3f} · {} rows · {} labels\n",
               result.loss, result.perplexity, result.rows, result.labels);
  }
  return kDone;
}

}  // namespace snug
