#include <fmt/ostream.h>

#include <nlohmann/json.hpp>

#include "cli/verbs.h"
#include "plan/recipe_text.h"
#include "train/trainer.h"

namespace snug {

int run_train(const Command& command, Console& console) {
  Trainer trainer(command.settings, {console.talk, console.talk_terminal.descriptor});
  const TrainResult result = trainer.run();
  if (command.json) {
    const DatasetCounts& rows = trainer.counts();
    nlohmann::ordered_json json = {
        {"schema", 1},
        {"steps", result.steps},
        {"first_loss", result.first_loss},
        {"last_loss", result.last_loss},
        {"seconds", result.seconds},
        {"tokens", result.tokens},
        {"tokens_per_second", result.tokens_per_second()},
        {"planned_peak_bytes", result.planned_peak_bytes},
        {"played_peak_bytes", result.played_peak_bytes},
        {"used_peak_bytes", result.used_peak_bytes},
        {"peak_rss_bytes", result.peak_rss_bytes},
        {"rows", rows.rows},
        {"cut", rows.cut},
        {"dropped", rows.dropped},
        {"recipe", describe_recipe(trainer.recipe())},
        {"arena_bytes", trainer.recipe().plan.arena(Space::device).bytes},
        {"needed_bytes", trainer.recipe().needed_bytes},
        {"micro_batch", trainer.recipe().micro_rows},
        {"gradient_accumulation_steps", trainer.recipe().accumulation},
        {"output_dir", result.output_dir.string()}};
    if (result.eval_loss != 0) json["eval_loss"] = result.eval_loss;
    fmt::print(console.out, "{}\n", json.dump());
  }
  return result.signal == 0 ? kDone : kSignalled + result.signal;
}

}  // namespace snug
