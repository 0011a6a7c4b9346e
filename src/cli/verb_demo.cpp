// The whole way in four acts: a model and data are made, the run is planned, trained and scored.

#include <fmt/ostream.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/demo_model.h"
#include "cli/demo_score.h"
#include "cli/demo_task.h"
#include "cli/verbs.h"
#include "core/error.h"
#include "core/settings_load.h"
#include "core/text.h"
#include "io/atomic_folder.h"
#include "io/file.h"
#include "passes/recompute.h"
#include "plan/recipe_text.h"
#include "train/trainer.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

constexpr DemoSizes kSizes{.train = 51200, .evaluation = 256, .held_out = 200};
constexpr double kPassPercent = 90;
constexpr const char* kMark = "demo.json";  // says that a folder is a demo's

/// The demo's files.
struct DemoFolder {
  fs::path root;
  fs::path model() const { return root / "model"; }
  fs::path train_rows() const { return root / "train.jsonl"; }
  fs::path eval_rows() const { return root / "eval.jsonl"; }
  fs::path questions() const { return root / "questions.jsonl"; }
  fs::path trained() const { return root / "trained"; }
};

/// UserError where something of a former demo's folder is not the demo's, or is being written.
void check_removable(const DemoFolder& folder) {
  const std::set<fs::path> ours = {folder.model(),     folder.train_rows(), folder.eval_rows(),
                                   folder.questions(), folder.trained(),    folder.root / kMark};
  for (const auto& entry : fs::directory_iterator(folder.root)) {
    if (ours.contains(entry.path())) continue;
    user_error("'{}' is not the demo's. Move it away or name another output_dir.",
               entry.path().string());
  }
  const fs::path lock = folder.trained() / RunFolder::kLock;
  if (fs::exists(lock)) const FolderLock idle(lock, fmt::format("'{}'", folder.root.string()));
}

/// An empty folder that says whose it is. UserError when it holds anything but a former demo.
DemoFolder make_folder(const Settings& settings) {
  const DemoFolder folder{settings.run.output_dir.value_or("runs/demo")};
  if (fs::exists(folder.root) && !fs::exists(folder.root / kMark) && !fs::is_empty(folder.root)) {
    user_error("'{}' is there and holds no demo. Name another output_dir.", folder.root.string());
  }
  if (fs::exists(folder.root / kMark)) {
    check_removable(folder);
    remove_folder(folder.root);
  }
  make_folders(folder.model());
  write_text(folder.root / kMark,
             fmt::format("{{\"schema\": 1, \"seed\": {}}}\n", settings.run.seed));
  return folder;
}

/// The training run: the demo's choices, and over them what the user set.
Settings train_settings(const DemoFolder& folder, const Settings& asked) {
  const Origin demo{Origin::Level::file, "demo"};
  const auto value = [](std::string text) { return RawValue::scalar(std::move(text)); };
  std::vector<Assignment> assignments = {
      {"model_name_or_path", value(folder.model().string()), demo},
      {"train_file", value(folder.train_rows().string()), demo},
      {"eval_file", value(folder.eval_rows().string()), demo},
      {"global_batch_size", value("128"), demo},
      {"learning_rate", value("3e-3"), demo},
      {"adam_beta2", value("0.98"), demo},
      {"num_train_epochs", value("1"), demo},
      {"logging_steps", value("50"), demo},
      {"device_memory", value("64MiB"), demo},
  };
  for (const auto& [key, origin] : asked.origins) {
    if (key == "output_dir") continue;
    assignments.push_back(
        {key, parse_yaml_value(find_setting(key).row->field.print(asked), key), origin});
  }
  assignments.push_back({"output_dir", value(folder.trained().string()), demo});
  ErrorList errors;
  Settings settings = make_settings(assignments, errors);
  check_settings(settings, errors);
  errors.raise();
  return settings;
}

class Demo {
 public:
  Demo(const Command& command, Console& console)
      : say_(command.json ? console.talk : console.out),
        terminal_(command.json ? console.talk_terminal : console.out_terminal),
        folder_(make_folder(command.settings)),
        settings_(train_settings(folder_, command.settings)) {}

  void make();
  void plan();
  /// Whether training came to its end.
  bool train();
  void result();
  void closing() const;

  int signal() const { return trained_.signal; }
  bool passed() const { return after_.percent() >= kPassPercent; }
  nlohmann::ordered_json json() const;

 private:
  void title(int act, std::string_view text) const {
    fmt::print(say_, "{}{}\n", act == 1 ? "" : "\n",
               terminal_.bold(fmt::format("{}/4 {}", act, text)));
    say_.flush();
  }

  std::ostream& say_;
  Terminal terminal_;
  DemoFolder folder_;
  Settings settings_;
  DemoTask task_;
  std::int64_t plain_needed_ = 0;
  std::int64_t plain_arena_ = 0;
  std::int64_t chosen_needed_ = 0;
  std::int64_t budget_ = 0;
  std::unique_ptr<Trainer> trainer_;
  TrainResult trained_;
  DemoScore before_;
  DemoScore after_;
};

void Demo::make() {
  title(1, "made");
  const auto seed = static_cast<std::uint64_t>(settings_.run.seed);
  task_ = make_demo_task(kSizes, seed);
  write_demo_model(folder_.model(), seed);
  write_demo_rows(folder_.train_rows(), task_.train);
  write_demo_rows(folder_.eval_rows(), task_.evaluation);
  write_demo_rows(folder_.questions(), task_.held_out);
  fmt::print(say_, "{}: a Llama of {} random weights\n", folder_.model().string(),
             group_digits(parameter_count(demo_config())));
  fmt::print(say_, "{}: {} rows to learn from, none of the {} questions among them\n",
             folder_.train_rows().string(), group_digits(kSizes.train), kSizes.held_out);
  for (std::size_t i = 0; i < 3; ++i) {
    fmt::print(say_, "  {}{}\n", task_.train[i].prompt(), task_.train[i].completion());
  }
}

void Demo::plan() {
  title(2, "plan");
  fmt::print(say_, "$ {}\n", repro_line("train", settings_));
  trainer_ = std::make_unique<Trainer>(settings_, Talk{say_, terminal_.descriptor});
  const RunRequest& run = trainer_->request();
  const std::int64_t rows = resolve_batch(settings_).rows;
  Settings plain = settings_;
  plain.recompute = nothing_recomputed();
  const Recipe plain_recipe = compile_recipe(run.recipe, plain, rows, *run.kernels, nullptr);
  plain_arena_ = plain_recipe.plan.arena(Space::device).bytes;
  plain_needed_ = plain_recipe.needed_bytes;
  budget_ = run.recipe.budget_bytes;
  const Recipe& chosen = trainer_->recipe();
  chosen_needed_ = chosen.needed_bytes;
  const auto needs = [&](const Recipe& recipe) {
    return fmt::format(
        "needs {} (arena {}, outside it {}): {} {}", binary_bytes(recipe.needed_bytes),
        binary_bytes(recipe.plan.arena(Space::device).bytes), binary_bytes(recipe.outside.total()),
        recipe.fits ? "fits" : "does not fit", binary_bytes(budget_));
  };
  fmt::print(say_, "plain training {}\n", needs(plain_recipe));
  fmt::print(say_, "chosen: {}\n  {}\n", describe_recipe(chosen), needs(chosen));
}

bool Demo::train() {
  title(3, "train");
  before_ = score_demo(folder_.model(), task_.held_out, settings_);
  trained_ = trainer_->run();
  trainer_.reset();
  return trained_.signal == 0;
}

void Demo::result() {
  title(4, "result");
  after_ = score_demo(folder_.trained(), task_.held_out, settings_);
  fmt::print(say_, "questions never seen, right: before {:.1f} %, after {:.1f} % ({} of {})\n",
             before_.percent(), after_.percent(), after_.right, after_.answers.size());
  for (std::size_t i = 0; i < kDemoShown; ++i) {
    const DemoQuestion& question = task_.held_out[i];
    const std::string& answer = after_.answers[i];
    fmt::print(say_, "  {} {}{}\n", is_right(question, answer) ? "✓" : "✗", question.prompt(),
               answer);
  }
  fmt::print(say_, "{}\n  plain training: arena {}, {:.0f} % of it spared here; process {}\n",
             describe_memory(trained_), binary_bytes(plain_arena_),
             100.0 * (1.0 - static_cast<double>(trained_.planned_peak_bytes) /
                                static_cast<double>(plain_arena_)),
             binary_bytes(plain_needed_));
}

void Demo::closing() const {
  if (!passed()) {
    fmt::print(say_, "\nunder {:.0f} % right: this is not how it should end. Please report it.\n",
               kPassPercent);
    return;
  }
  fmt::print(say_,
             "\ntry:\n  snug plan model=shape:llama-3.1-8b device_memory=24GiB\n"
             "  snug generate {} prompt='sort window ='\n"
             "  snug inspect {} {}\n",
             shell_word("model=" + folder_.trained().string()),
             shell_word("model=" + folder_.model().string()),
             shell_word("data=" + folder_.train_rows().string()));
}

nlohmann::ordered_json Demo::json() const {
  return {{"schema", 1},
          {"questions", after_.answers.size()},
          {"right_before", before_.right},
          {"right_after", after_.right},
          {"budget_bytes", budget_},
          {"plain_needed_bytes", plain_needed_},
          {"needed_bytes", chosen_needed_},
          {"plain_peak_bytes", plain_arena_},
          {"planned_peak_bytes", trained_.planned_peak_bytes},
          {"used_peak_bytes", trained_.used_peak_bytes},
          {"steps", trained_.steps},
          {"tokens_per_second", trained_.tokens_per_second()},
          {"seconds", trained_.seconds},
          {"folder", folder_.root.string()}};
}

}  // namespace

int run_demo(const Command& command, Console& console) {
  Demo demo(command, console);
  demo.make();
  if (!command.words.empty()) return kDone;
  demo.plan();
  if (!demo.train()) return 128 + demo.signal();
  demo.result();
  demo.closing();
  if (command.json) fmt::print(console.out, "{}\n", demo.json().dump());
  return demo.passed() ? kDone : kInternalError;
}

}  // namespace snug
