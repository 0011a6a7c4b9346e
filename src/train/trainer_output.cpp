// What a run prints before and after its steps.

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <set>

#include "core/settings_load.h"
#include "core/text.h"
#include "data/packing.h"
#include "io/checkpoints.h"
#include "model/config.h"
#include "passes/optimizer.h"
#include "plan/notes.h"
#include "plan/recipe_text.h"
#include "plan/report.h"
#include "train/trainer.h"

namespace snug {
namespace {

/// A command on the trained model in `folder`, with these keys as the run had them, and how the
/// base of adapters was asked to be quantised: an adapter's folder does not say it.
std::string command_on(const std::string& folder, std::string_view verb, const Settings& settings,
                       std::set<std::string_view> keys) {
  keys.merge(
      std::set<std::string_view>{"load_in_4bit", "load_in_8bit", "bnb_4bit_use_double_quant"});
  Settings shown = settings;
  std::erase_if(shown.origins, [&](const auto& origin) { return !keys.contains(origin.first); });
  shown.model.name_or_path = folder;
  shown.origins["model_name_or_path"] = {};
  return repro_line(verb, shown);
}

}  // namespace

std::string describe_memory(const TrainResult& result) {
  const std::string planned = result.needed_bytes == 0
                                  ? std::string()
                                  : fmt::format("{} planned, ", binary_bytes(result.needed_bytes));
  return fmt::format("arena {} planned, {} used · process {}{} used",
                     binary_bytes(result.planned_peak_bytes), binary_bytes(result.used_peak_bytes),
                     planned, binary_bytes(result.held_bytes));
}

void Trainer::print_header() const {
  const Target& target = recipe_->plan.target;
  const DatasetCounts& rows = data_.train.counts();
  std::ostream& out = talk_.out;
  out << fmt::format("snug {} · {} ({}), {} threads · {}\n", SNUG_VERSION, target.backend,
                     name_of(target.isa), target.threads, target.libraries);
  out << fmt::format("model: {} ({}) · {}\n", model_.name, name_of(model_.config.family),
                     describe_parameters(count_parameters(recipe_->module->parameters)));
  for (const std::string& note : model_.notes) out << note << "\n";
  out << fmt::format(
      "data: {} rows · {} tokens, {} trained · longest {} · {} cut at {} · {} dropped\n",
      group_digits(rows.rows), group_digits(rows.tokens), group_digits(rows.trained_tokens),
      rows.longest, rows.cut, data_.max_length, rows.dropped);
  for (const std::string& remark : remarks_of(rows)) out << remark << "\n";
  if (settings_.data.packing) out << describe_packing(data_.train) << "\n";
  if (data_.eval.size() > 0) {
    out << fmt::format("evaluation: {} rows · {} tokens\n", group_digits(data_.eval.counts().rows),
                       group_digits(data_.eval.counts().tokens));
  }
  out << fmt::format("steps: {} of {} rows · output: {}\n", at_.trainer.max_steps,
                     recipe_->rows_per_step, folder_->path().string());
  out << recipe_note_;
  if (!settings_.device.memory) out << "memory: " << request_.budget_from << "\n";
  out << describe_verdict(*recipe_, request_.recipe.budget_bytes) << "\n";
  out << fmt::format("memory: {} planned for the arena, {} outside it\n",
                     binary_bytes(recipe_->plan.arena(Space::device).bytes),
                     binary_bytes(recipe_->outside.total()));
  for (const std::string& warning : reference_warnings(recipe_->plan)) out << warning << "\n";
  const std::string_view note = optimizer_note(settings_.optimizer);
  if (!note.empty()) out << "optimizer: " << note << "\n";
  out << repro_line("train", settings_) << "\n" << std::flush;
}

void Trainer::print_stop_figure() const {
  const double grace = settings_.run.stop_grace.seconds;
  const double seconds = saver_->seconds();
  talk_.out << fmt::format(
      "stop: a signal ends the run after the step and a checkpoint of {}, about {:.1f} s at {} a "
      "second{}\n",
      decimal_bytes(saver_->checkpoint_bytes()), seconds,
      decimal_bytes(static_cast<std::int64_t>(Saver::kAssumedRate)),
      seconds > grace
          ? fmt::format("; longer than stop_grace ({:.0f} s): SIGTERM stops at once, on "
                        "the last checkpoint",
                        grace)
          : "");
}

void Trainer::print_remarks() {
  for (const std::string& remark : executor_->remarks()) {
    talk_.out << "warning: " << remark << "\n";
  }
  const double grace = settings_.run.stop_grace.seconds;
  if (saver_->seconds() > grace || step_seconds_ + saver_->seconds() <= grace) return;
  talk_.out << fmt::format(
      "stop: a step takes {:.1f} s and a checkpoint about {:.1f} s, together longer than "
      "stop_grace ({:.0f} s): SIGTERM stops at once, on the last checkpoint\n",
      step_seconds_, saver_->seconds(), grace);
}

std::string Trainer::resume_command() const {
  const std::string folder = folder_->path().string();
  return fmt::format("snug train {} {} resume_from_checkpoint=true",
                     shell_word((folder_->path() / "config.yaml").string()),
                     shell_word("output_dir=" + folder));
}

/// In a thread beside the one that trains, which may be using the talk's stream.
void Trainer::print_stopped_at_once(const TrainResult& result, double seconds) const {
  const auto checkpoints = list_checkpoints(folder_->path());
  const std::string why =
      std::isfinite(seconds)
          ? fmt::format(
                "the rest of the step and a checkpoint would take about {:.1f} s, stop_grace is "
                "{:.0f} s",
                seconds, settings_.run.stop_grace.seconds)
          : "no step of this start has ended yet";
  std::string rest = "there is no checkpoint yet; the same command starts over";
  if (!checkpoints.empty()) {
    rest = fmt::format("the last checkpoint is {}", checkpoints.back().folder.string());
    if (!settings_.save.only_model) rest += "\n  " + resume_command();
  }
  fmt::print(stderr, "\nstopped by signal {} at once: {}\n{}\n", result.signal, why, rest);
}

void Trainer::print_finished() const {
  talk_.out << fmt::format(
                   "{} is finished: step {} of {}. To train on: more num_train_epochs or "
                   "max_steps:\n  {} max_steps={}\n",
                   folder_->path().string(), before_->trainer.global_step, schedule_->steps(),
                   resume_command(), 2 * before_->trainer.global_step)
            << std::flush;
}

void Trainer::print_end(const TrainResult& result) const {
  std::ostream& out = talk_.out;
  const std::string folder = folder_->path().string();
  if (result.signal != 0) {
    out << fmt::format("stopped by signal {} after step {}; {} in {}\n", result.signal,
                       result.steps, saver_->saved_at() == result.steps ? "saved" : "NOT saved",
                       folder);
  }
  if (result.tokens > 0) {
    const std::int64_t padding = result.padded_tokens - result.tokens;
    out << fmt::format(
        "loss {:.4f} → {:.4f} · {} · {:.0f} tokens/s · {:.1f} % padding\n", result.first_loss,
        result.last_loss, format_duration(result.seconds), result.tokens_per_second(),
        result.padded_tokens == 0
            ? 0.0
            : 100 * static_cast<double>(padding) / static_cast<double>(result.padded_tokens));
  }
  out << fmt::format("memory: {}\n", describe_memory(result));
  if (result.played_peak_bytes < result.planned_peak_bytes) {
    out << fmt::format("  the rest is for batches padded to {} tokens, of which none came\n",
                       fmt::join(result.absent_lengths, ", "));
  }
  if (result.signal == 0) {
    out << fmt::format("model: {}\n", folder);
    if (std::filesystem::exists(result.output_dir / "tokenizer.json")) {
      out << fmt::format("  {} prompt=\"Once upon a time\"\n",
                         command_on(folder, "generate", settings_, {}));
    }
    if (settings_.is_set("eval_file")) {
      out << fmt::format("  {}\n", command_on(folder, "eval", settings_, {"eval_file"}));
    }
  }
  if (saver_->saved_at() < 0 || settings_.save.only_model) {  // nothing to go on from
    out << std::flush;
    return;
  }
  const std::string longer =
      result.signal == 0 ? fmt::format(" max_steps={}", 2 * result.steps) : "";
  out << fmt::format("  {}{}\n", resume_command(), longer) << std::flush;
}

}  // namespace snug
