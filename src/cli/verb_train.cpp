#include <fmt/ostream.h>

#include <cstdlib>
#include <exception>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/on_end.h"
#include "cli/verbs.h"
#include "core/error.h"
#include "plan/recipe_text.h"
#include "train/trainer.h"

namespace snug {
namespace {

constexpr int kSignalStatus = 128;

void print_json(const TrainResult& result, const Trainer& trainer, std::ostream& out) {
  const DatasetCounts& rows = trainer.counts();
  nlohmann::ordered_json json = {{"schema", 1},
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
  fmt::print(out, "{}\n", json.dump());
}

RunEnding stopped(const TrainResult& result) {
  return {.outcome = result.signal == 0 ? "done" : "stopped",
          .exit_status = result.signal == 0 ? kDone : kSignalStatus + result.signal,
          .signal = result.signal,
          .output_dir = result.output_dir.string(),
          .step = result.steps,
          .message = ""};
}

/// What an exception that leaves the run means for its end.
RunEnding failed(const std::exception_ptr& thrown) {
  RunEnding ending{
      .outcome = "failed", .exit_status = kInternalError, .output_dir = "", .message = ""};
  try {
    std::rethrow_exception(thrown);
  } catch (const DoesNotFit& error) {
    ending.outcome = "does_not_fit";
    ending.exit_status = kDoesNotFit;
    ending.message = error.what();
  } catch (const UserError& error) {
    ending.exit_status = kUserError;
    ending.message = error.what();
  } catch (const std::exception& error) {
    ending.message = error.what();
  }
  return ending;
}

}  // namespace

int run_train(const Command& command, Console& console) {
  const Settings& settings = command.settings;
  check_on_end(settings);
  const std::string& on_end = settings.run.on_end;
  std::unique_ptr<Trainer> trainer;
  RunEnding ending;
  try {
    const auto at_once = [&](const TrainResult& result) {
      // The training thread may be using the console's stream.
      std::ostringstream said;
      run_on_end(on_end, stopped(result), said);
      fmt::print(stderr, "{}", said.str());
      std::_Exit(kSignalStatus + result.signal);
    };
    trainer = std::make_unique<Trainer>(
        settings, Talk{console.talk, console.talk_terminal.descriptor}, at_once);
    const TrainResult result = trainer->run();
    if (command.json) print_json(result, *trainer, console.out);
    ending = stopped(result);
  } catch (const std::exception&) {
    ending = failed(std::current_exception());
    ending.output_dir = settings.run.output_dir.value_or("");
    if (trainer != nullptr) {
      ending.output_dir = trainer->output_dir().string();
      ending.step = trainer->steps_done();
    }
    trainer.reset();  // and with it the folder's lock
    run_on_end(on_end, ending, console.talk);
    throw;
  }
  trainer.reset();
  console.out.flush();
  run_on_end(on_end, ending, console.talk);
  return ending.exit_status;
}

}  // namespace snug
