#include <fmt/ostream.h>

#include <nlohmann/json.hpp>

#include "cli/verbs.h"
#include "train/evaluation.h"

namespace snug {

int run_eval(const Command& command, Console& console) {
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
