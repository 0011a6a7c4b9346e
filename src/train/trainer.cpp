#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"
#include "core/philox.h"
#include "core/settings_load.h"
#include "core/text.h"
#include "exec/host_memory.h"
#include "io/file.h"
#include "passes/precision.h"
#include "plan/recipe_text.h"
#include "train/played.h"
#include "train/weights.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

std::uint64_t fingerprint(const Dataset& data) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a over the 32-bit words
  const auto mix = [&](std::uint32_t word) { hash = (hash ^ word) * 0x100000001b3ULL; };
  for (std::int64_t row = 0; row < data.size(); ++row) {
    for (const std::int32_t id : data.ids(row)) mix(static_cast<std::uint32_t>(id));
    for (const std::int32_t label : data.labels(row)) mix(static_cast<std::uint32_t>(label));
    for (const std::int32_t document : data.documents(row).subspan(1)) {
      mix(static_cast<std::uint32_t>(document));
    }
  }
  return hash;
}

Trainer::Trainer(Settings settings, Talk talk, StopAtOnce at_once)
    : settings_(std::move(settings)), talk_(talk), at_once_(std::move(at_once)) {
  model_ = open_model(settings_.model);
  if (!model_.has_weights && settings_.model.init == InitWeights::pretrained) {
    user_error("'{}' is a shape without weights. Add init=random to train it from random weights.",
               settings_.model.name_or_path);
  }
  data_ = open_rows(settings_, model_);
  model_.chat_template = data_.named_template;
  folder_ = std::make_unique<RunFolder>(settings_, model_, data_.name, talk_);
  if (!folder_->resume_from().empty()) before_ = read_progression(folder_->resume_from());
  choose();
}

Trainer::~Trainer() = default;

void Trainer::choose() {
  request_ = make_request(settings_, model_, data_, before_ ? &*before_ : nullptr);
  settings_.quantization = request_.recipe.settings.quantization;  // as the model's files say
  recipe_ = std::make_unique<Recipe>(make_recipe(request_, model_, &recipe_note_));
  if (!recipe_->fits) {
    const RecipeRequest& asked = request_.recipe;
    throw DoesNotFit(
        describe_misfit(asked, *recipe_, advise(asked, *recipe_, *request_.kernels, 5)));
  }
  set_stored_dtype(model_, stored_dtype(settings_.precision));
  set_schedule();
  if (before_) check_resumed(*before_);
}

void Trainer::set_schedule() {
  schedule_ = std::move(request_.schedule);
  schedule_->describe(at_.trainer);
  at_.trainer.train_batch_size = recipe_->micro_rows;
  at_.recompute = find_setting("activation_checkpointing").row->field.print(recipe_->settings);
  at_.seed = settings_.run.seed;
  at_.computed_on = computed_on(recipe_->plan.target);
  if (needs_loss_scale(settings_.precision)) at_.loss_scale.emplace();
  at_.data = {.epoch = 0,
              .step_in_epoch = 0,
              .rows = data_.train.size(),
              .rows_per_step = recipe_->rows_per_step,
              .fingerprint = fingerprint(data_.train)};
}

void Trainer::start() {
  folder_->begin();
  pool_ = std::make_unique<ThreadPool>(recipe_->plan.target.threads);
  executor_ = make_executor(*recipe_, *pool_, {.replay = settings_.device.graphs});
  runner_ = std::make_unique<StepRunner>(*recipe_, *executor_);
  saver_ = std::make_unique<Saver>(
      settings_.save, *schedule_, *folder_, effective_config(),
      CheckpointWriter(*recipe_, *executor_,
                       saved_model(model_, settings_, recipe_->module->parameters)),
      talk_);
  saver_->check_disk_for();
  print_stop_figure();
  const auto begin = std::chrono::steady_clock::now();
  load_start_state();
  talk_.out << fmt::format("start: {} populated in {:.2f} s, filled in {:.2f} s\n",
                           binary_bytes(recipe_->plan.arena(Space::device).bytes),
                           executor_->arenas().populate_seconds, seconds_since(begin));
  schedule_->order().start(at_.data.epoch);
  replace_text(folder_->path() / "config.yaml", effective_config());
  metrics_ =
      std::make_unique<MetricsFile>(folder_->path() / "metrics.jsonl", at_.trainer.global_step);
  progress_ = std::make_unique<Progress>(talk_);
  check_outside(*recipe_, executor_->arenas());
}

void Trainer::load_start_state() {
  executor_->play(recipe_->module->script.init);
  const auto bytes = [&](std::string_view name) { return executor_->bytes(name); };
  const fs::path& resume_from = folder_->resume_from();
  if (!resume_from.empty()) {
    const Progression before = load_checkpoint(resume_from, model_, *recipe_, *executor_, *pool_);
    const Progression planned = at_;
    at_ = before;
    if (!needs_loss_scale(settings_.precision)) at_.loss_scale.reset();
    if (needs_loss_scale(settings_.precision) && !at_.loss_scale) at_.loss_scale.emplace();
    schedule_->describe(at_.trainer);
    at_.trainer.train_batch_size = planned.trainer.train_batch_size;
    at_.computed_on = planned.computed_on;
    at_.recompute = planned.recompute;
    talk_.out << fmt::format("resumed from {} at step {}\n", resume_from.string(),
                             at_.trainer.global_step);
    print_changes(before);
    saver_->began_from(at_.trainer.global_step);
    step_now_ = at_.trainer.global_step;
  } else {
    fill_weights(recipe_->module->parameters, model_,
                 static_cast<std::uint64_t>(settings_.run.seed), bytes, *pool_);
  }
}

TrainResult Trainer::run() {
  print_header();
  result_.output_dir = folder_->path();
  if (before_ && before_->trainer.global_step >= schedule_->steps() && folder_->has_model()) {
    result_.steps = before_->trainer.global_step;
    print_finished();
    return result_;
  }
  StopSignals signals(settings_.run.stop_grace.seconds,
                      [this](int signal, double seconds) { stop_in_middle(signal, seconds); });
  start();
  train_steps(signals);
  if (result_.signal == 0) {
    signals.expect(saver_->seconds());
    saver_->save_model(at_.trainer);
  }
  result_.steps = at_.trainer.global_step;
  result_.planned_peak_bytes = recipe_->plan.arena(Space::device).bytes;
  result_.used_peak_bytes = executor_->used_peak(Space::device);
  const PlayedPart played = played_part(*recipe_, *executor_);
  result_.played_peak_bytes = played.peak_bytes;
  result_.absent_lengths = played.absent_lengths;
  if (!recipe_->plan.target.card.present()) result_.needed_bytes = recipe_->needed_bytes;
  result_.peak_rss_bytes = peak_resident_bytes();
  result_.held_bytes = anonymous_bytes();
  print_end(result_);
  return result_;
}

void Trainer::train_steps(StopSignals& signals) {
  if (owes_evaluation()) evaluate();
  const std::int64_t begun = at_.trainer.global_step;
  while (at_.trainer.global_step < at_.trainer.max_steps && result_.signal == 0) {
    signals.expect(step_seconds_ > 0 ? step_seconds_ + saver_->seconds()
                                     : std::numeric_limits<double>::infinity());
    train_step();
    step_now_ = at_.trainer.global_step;
    result_.signal = StopSignals::arrived();
    if (at_.trainer.global_step == begun + 1) print_remarks();
    // A run that stops here evaluates when it goes on.
    if (result_.signal == 0 && schedule_->evaluates_at(at_.trainer.global_step)) {
      signals.expect(std::max(eval_seconds_, step_seconds_) + saver_->seconds());
      evaluate();
      result_.signal = StopSignals::arrived();
    }
    if (result_.signal != 0 || saver_->due(at_.trainer.global_step)) {
      signals.expect(saver_->seconds());
      saver_->save(at_);
    }
  }
}

void Trainer::stop_in_middle(int signal, double seconds) {
  TrainResult result;
  result.steps = step_now_;
  result.output_dir = folder_->path();
  result.signal = signal;
  print_stopped_at_once(result, seconds);
  if (at_once_) at_once_(result);
  std::_Exit(128 + signal);
}

void Trainer::train_step() {
  if (at_.data.step_in_epoch == schedule_->order().steps()) {
    ++at_.data.epoch;
    at_.data.step_in_epoch = 0;
    schedule_->order().start(at_.data.epoch);
  }
  const auto start = std::chrono::steady_clock::now();
  const double learning_rate = schedule_->rate().at(at_.applied);
  const double scale = at_.loss_scale ? at_.loss_scale->scale() : 1.0;
  const StepOutcome outcome =
      runner_->train(data_.train, schedule_->order().step(at_.data.step_in_epoch), learning_rate,
                     at_.applied, scale);
  const double seconds = seconds_since(start);
  constexpr double kForget = 0.9;
  step_seconds_ = std::max(seconds, kForget * step_seconds_);
  after_step(outcome, learning_rate, seconds);
}

void Trainer::after_step(const StepOutcome& outcome, double learning_rate, double seconds) {
  constexpr std::int64_t kMostSkipped = 10;
  const bool overflowed = at_.loss_scale && outcome.overflowed;
  if (overflowed) {
    const double scale = at_.loss_scale->scale();
    talk_.out << fmt::format(
        "step {}: the gradients overflowed at a loss scale of {}; the update was skipped\n",
        at_.trainer.global_step + 1, scale);
  }
  if (at_.loss_scale && outcome.labels > 0) at_.loss_scale->update(!outcome.overflowed);
  if (!outcome.finite && !overflowed) {
    ++skipped_in_a_row_;
    const std::string what =
        fmt::format("step {}: the loss or a gradient is not finite (loss {}, gradient norm {}); {}",
                    at_.trainer.global_step + 1, outcome.loss(), outcome.grad_norm,
                    outcome.applied ? "the tensors of such gradients were left as they were"
                                    : "the update was not applied");
    if (settings_.run.nan_policy == NanPolicy::stop || skipped_in_a_row_ > kMostSkipped) {
      user_error(
          "{}. The last good checkpoint stays. Lower learning_rate, look at the data of this "
          "step, or set nan_policy=skip.",
          what);
    }
    talk_.out << what << "\n";
  } else if (outcome.finite) {
    skipped_in_a_row_ = 0;
  }
  if (outcome.applied) ++at_.applied;
  at_.learning_rate = learning_rate;
  ++at_.data.step_in_epoch;
  TrainerState& state = at_.trainer;
  ++state.global_step;
  state.epoch =
      static_cast<double>(at_.data.epoch) +
      static_cast<double>(at_.data.step_in_epoch) / static_cast<double>(schedule_->order().steps());
  state.num_input_tokens_seen += outcome.tokens;
  result_.seconds += seconds;
  ++steps_timed_;
  result_.tokens += outcome.tokens;
  result_.padded_tokens += outcome.padded;
  if (result_.first_loss == 0) result_.first_loss = outcome.loss();
  result_.last_loss = outcome.loss();
  loss_since_log_ += outcome.loss();
  ++steps_since_log_;
  write_metrics(outcome, learning_rate, seconds);
  const bool logs = schedule_->logs_at(state.global_step);
  progress_->show({.step = state.global_step,
                   .steps = state.max_steps,
                   .loss = outcome.loss(),
                   .learning_rate = learning_rate,
                   .grad_norm = outcome.grad_norm,
                   .tokens_per_second = static_cast<double>(outcome.tokens) / seconds,
                   .used_bytes = executor_->used_peak(Space::device),
                   .planned_bytes = recipe_->plan.arena(Space::device).bytes,
                   .seconds_left = static_cast<double>(state.max_steps - state.global_step) *
                                   result_.seconds / static_cast<double>(steps_timed_)},
                  logs);
  if (logs) log(learning_rate, outcome.grad_norm);
}

void Trainer::log(double learning_rate, double grad_norm) {
  at_.trainer.log({{"loss", loss_since_log_ / static_cast<double>(steps_since_log_)},
                   {"learning_rate", learning_rate},
                   {"grad_norm", grad_norm}});
  loss_since_log_ = 0;
  steps_since_log_ = 0;
  write_state();
}

/// A full disk costs the file's news, not the run.
void Trainer::write_state() {
  try {
    replace_text(folder_->path() / "trainer_state.json", at_.trainer.to_json());
  } catch (const DiskFull&) {
    say_disk_full();
  }
}

void Trainer::say_disk_full() {
  if (std::exchange(said_disk_full_, true)) return;
  talk_.out << fmt::format(
      "warning: step {}: no room for metrics.jsonl and trainer_state.json; their rows wait\n",
      at_.trainer.global_step);
}

bool Trainer::owes_evaluation() const {
  const std::int64_t step = at_.trainer.global_step;
  if (!before_ || step == 0 || !schedule_->evaluates_at(step)) return false;
  const auto& rows = at_.trainer.history();
  return std::none_of(rows.begin(), rows.end(), [&](const nlohmann::json& row) {
    return row.contains("eval_loss") && row.value("step", std::int64_t{-1}) == step;
  });
}

void Trainer::evaluate() {
  const auto start = std::chrono::steady_clock::now();
  const EvaluationOutcome outcome = runner_->evaluate(data_.eval);
  const double seconds = seconds_since(start);
  const std::int64_t micro_batches =
      (data_.eval.size() + recipe_->micro_rows - 1) / recipe_->micro_rows;
  eval_seconds_ = seconds;
  result_.eval_loss = outcome.loss();
  at_.trainer.log({{"eval_loss", outcome.loss()},
                   {"eval_runtime", seconds},
                   {"eval_samples_per_second", static_cast<double>(data_.eval.size()) / seconds},
                   {"eval_steps_per_second", static_cast<double>(micro_batches) / seconds}});
  if (!metrics_->write({{"step", at_.trainer.global_step},
                        {"epoch", at_.trainer.epoch},
                        {"eval_loss", outcome.loss()},
                        {"eval_runtime", seconds}})) {
    say_disk_full();
  }
  talk_.out << fmt::format("step {}/{} · eval_loss {:.4f} · {} rows\n", at_.trainer.global_step,
                           at_.trainer.max_steps, outcome.loss(), data_.eval.size());
}

void Trainer::write_metrics(const StepOutcome& outcome, double learning_rate, double seconds) {
  const std::int64_t planned = recipe_->plan.arena(Space::device).bytes;
  nlohmann::ordered_json row = {
      {"step", at_.trainer.global_step},
      {"epoch", at_.trainer.epoch},
      {"loss", outcome.loss()},
      {"grad_norm", outcome.grad_norm},
      {"learning_rate", learning_rate},
      {"applied", outcome.applied},
      {"num_input_tokens_seen", at_.trainer.num_input_tokens_seen},
      {"tokens_per_second", static_cast<double>(outcome.tokens) / seconds},
      {"step_ms", seconds * 1e3},
      {"memory/planned_peak", planned},
      {"memory/peak", outcome.memory.peak()},
      {"memory/reserved", executor_->arenas()[Space::device].bytes()},
      {"memory/forward/peak", outcome.memory.forward},
      {"memory/backward/peak", outcome.memory.backward},
      {"memory/optimizer/peak", outcome.memory.update},
      {"memory/rss", resident_bytes()}};
  if (at_.loss_scale) {
    row["loss_scale"] = at_.loss_scale->scale();
    row["skipped_steps"] = at_.loss_scale->skipped();
  }
  if (!metrics_->write(row)) say_disk_full();
}

std::string Trainer::effective_config() const {
  return effective_yaml(
      settings_, run_groups(),
      {{"per_device_train_batch_size", fmt::format("{}", recipe_->micro_rows)},
       {"activation_checkpointing",
        find_setting("activation_checkpointing").row->field.print(recipe_->settings)}});
}

}  // namespace snug
