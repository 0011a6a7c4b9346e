#include "cli/verbs.h"

#include <fmt/ostream.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "cli/help.h"
#include "core/error.h"
#include "data/data_files.h"
#include "io/model_files.h"
#include "train/run_setup.h"

namespace snug {
namespace {

/// All that says what a run is, and what the verb shows of it.
std::vector<Group> plan_groups() {
  std::vector<Group> groups(run_groups().begin(), run_groups().end());
  groups.push_back(Group::plan);
  return groups;
}

/// What the help of a run shows first.
constexpr std::array<std::string_view, 16> kMainKeys = {
    "model_name_or_path",       "train_file",    "eval_file",     "output_dir",
    "finetuning_type",          "load_in_4bit",  "device_memory", "max_length",
    "global_batch_size",        "learning_rate", "optim",         "num_train_epochs",
    "activation_checkpointing", "save_steps",    "seed",          "resume_from_checkpoint",
};

std::vector<std::string_view> plan_keys() {
  std::vector<std::string_view> keys(kMainKeys.begin(), kMainKeys.end());
  keys.emplace_back("details");
  return keys;
}

/// Says what went wrong and returns the exit status for it.
int report(std::string_view kind, const char* message, int status, bool json, Console& console) {
  fmt::print(console.talk, "{}\n", message);
  if (json) {
    const nlohmann::json error = {{"kind", kind}, {"message", message}};
    fmt::print(console.out, "{}\n",
               nlohmann::json{{"schema", 1}, {"error", error}}.dump(
                   -1, ' ', false, nlohmann::json::error_handler_t::replace));
  }
  return status;
}

/// Single verbs' keys that were given to another one.
void note_foreign(const Verb& verb, Settings& settings) {
  const auto among = [](std::span<const Group> groups, Group group) {
    return std::find(groups.begin(), groups.end(), group) != groups.end();
  };
  for (const Row& row : settings_table()) {
    const Origin origin = settings.origin(row.key);
    if (origin.level != Origin::Level::command_line) continue;
    if (among(run_groups(), row.group) || among(verb.groups, row.group)) continue;
    settings.notes.push_back(fmt::format("{}: {} has no effect in `snug {}`; it is a key of {}.",
                                         origin.place, row.key, verb.name, title_of(row.group)));
  }
}

/// That the files which a key names are there.
void check_path(std::string_view key, const Settings& settings, ErrorList& errors) {
  if (!settings.is_set(key)) return;
  const auto look = [&](auto&& work) {
    try {
      work();
    } catch (const UserError& error) {
      errors.add(fmt::format("{}: {}", settings.origin(key).place, error.what()));
    }
  };
  const auto check_files = [&](const std::vector<std::string>& patterns) {
    for (const std::string& pattern : patterns) look([&] { find_data_files({pattern}); });
  };
  if (key == "train_file") {
    check_files(settings.data.train_files);
  } else if (key == "eval_file") {
    check_files(settings.data.eval_files);
  } else if (!settings.model.name_or_path.starts_with("shape:")) {
    look([&] { find_model_folder(settings.model.name_or_path); });
  }
}

/// The settings of a command line, checked as far as can be without reading a model or data.
/// UserError with everything that is wrong.
Settings settings_of(CommandLine& line, const Verb& verb) {
  ErrorList& errors = line.errors;
  Settings settings = make_settings(line.assignments, errors);
  errors.attempt([&] { settings = with_adapter(settings); });
  if (!verb.adds_settings) check_settings(settings, errors);
  note_foreign(verb, settings);
  for (const auto& keys : verb.required) {
    errors.attempt([&] { require_setting(settings, keys, verb.name); });
  }
  for (const std::string_view key : verb.paths) check_path(key, settings, errors);
  errors.raise();
  return settings;
}

int run_line(CommandLine line, std::span<const Verb> verbs, Console& console) {
  if (line.version) {
    fmt::print(console.out, "snug {}\n", SNUG_VERSION);
    return kDone;
  }
  if (line.verb.empty()) {
    fmt::print(line.help ? console.out : console.talk, "{}",
               overview(verbs, line.help ? console.out_terminal : console.talk_terminal));
    return line.help ? kDone : kUserError;
  }
  const Verb& verb = find_verb(line.verb, verbs);
  if (line.help) {
    fmt::print(console.out, "{}", help_for(line.verb, verbs, console.out_terminal));
    return kDone;
  }
  Settings settings = settings_of(line, verb);
  const Command command{line.verb, std::move(line.words), line.json, std::move(settings)};
  for (const std::string& note : command.settings.notes) {
    fmt::print(console.talk, "{}\n", note);
  }
  return verb.run(command, console);
}

/// Runs the line; errors become messages.
int run_safely(std::span<const std::string> arguments, std::span<const Verb> verbs,
               Console& console) {
  const bool json = std::find(arguments.begin(), arguments.end(), "--json") != arguments.end();
  try {
    return run_line(parse_command_line(arguments, verbs), verbs, console);
  } catch (const DoesNotFit& error) {
    return report("does_not_fit", error.what(), kDoesNotFit, json, console);
  } catch (const UserError& error) {
    return report("user", error.what(), kUserError, json, console);
  } catch (const std::exception& error) {
    return report("internal", error.what(), kInternalError, json, console);
  }
}

}  // namespace

std::span<const ExitStatus> exit_table() {
  static constexpr std::array<ExitStatus, 5> kTable = {{
      {"0", "done."},
      {"1", "something to mend in the settings, the files or the machine; the message says what."},
      {"2", "an error inside snug."},
      {"3", "does not fit: the run needs more memory than device_memory; nothing was started."},
      {"128 + N",
       "training was stopped by signal N (130: Ctrl-C, 143: SIGTERM) and can go on from "
       "its last checkpoint."},
  }};
  return kTable;
}

std::span<const Verb> verb_table() {
  static const std::vector<Verb> verbs = {
      {.name = "train",
       .usage = "[config.yaml] model=FOLDER data=FILE [key=value ...]",
       .sentence = "Plans, trains and saves a model.",
       .groups = {run_groups().begin(), run_groups().end()},
       .main = {kMainKeys.begin(), kMainKeys.end()},
       .required = {{"model_name_or_path"}, {"train_file"}},
       .paths = {"model_name_or_path", "train_file", "eval_file"},
       .run = run_train},
      {.name = "plan",
       .usage = "[config.yaml] model=FOLDER|shape:NAME [key=value ...]",
       .sentence = "Shows the memory a run needs, before the run; needs no weights.",
       .groups = plan_groups(),
       .main = plan_keys(),
       .required = {{"model_name_or_path"}},
       .paths = {"model_name_or_path", "train_file", "eval_file"},
       .run = run_plan},
      {.name = "explain",
       .usage = "[config.yaml] model=FOLDER|shape:NAME [after=PASS] [kernels=true]",
       .sentence = "Prints the graph after a pass, or the kernels chosen and why others refused.",
       .groups = {Group::explain},
       .required = {{"model_name_or_path"}},
       .paths = {"model_name_or_path"},
       .run = run_explain},
      {.name = "eval",
       .usage = "model=FOLDER eval_file=FILE [key=value ...]",
       .sentence = "Measures a model's loss on data.",
       .groups = {Group::model, Group::data, Group::device},
       .required = {{"model_name_or_path"}, {"eval_file", "train_file"}},
       .paths = {"model_name_or_path"},
       .run = run_eval},
      {.name = "generate",
       .usage = "model=FOLDER prompt=TEXT [max_new_tokens=N] [do_sample=true] [key=value ...]",
       .sentence = "Continues a text.",
       .groups = {Group::model, Group::generate, Group::device},
       .required = {{"model_name_or_path"}, {"prompt"}},
       .paths = {"model_name_or_path"},
       .run = run_generate},
      {.name = "merge",
       .usage = "model=ADAPTER output_dir=FOLDER [data=FILE]",
       .sentence = "Merges an adapter into its base, tensor by tensor; with data, says how far the "
                   "logits of its first rows then are from the two apart.",
       .groups = {Group::model, Group::tuning, Group::data, Group::saving},
       .required = {{"model_name_or_path"}, {"output_dir"}},
       .run = run_merge},
      {.name = "inspect",
       .usage = "model=FOLDER [data=FILE] [rows=N]",
       .sentence = "Shows rows as they will be trained, or what a model folder holds.",
       .groups = {Group::model, Group::data, Group::inspect},
       .required = {{"model_name_or_path"}},
       .paths = {"model_name_or_path"},
       .run = run_inspect},
      {.name = "export",
       .usage = "model=FOLDER output_dir=FOLDER [export_format=gguf] [export_dtype=TYPE]",
       .sentence = "Writes a model in another type or as a GGUF file for llama.cpp.",
       .groups = {Group::model, Group::exporting},
       .required = {{"model_name_or_path"}, {"output_dir"}},
       .paths = {"model_name_or_path"},
       .run = run_export},
      {.name = "bench",
       .usage = "step shape=NAME batch=N seq=N steps=N accum=N [key=value ...]",
       .sentence = "Times a training step on random tokens.",
       .groups = {Group::bench},
       .words = {"step"},
       .run = run_bench},
      {.name = "demo",
       .usage = "[make] [output_dir=FOLDER] [key=value ...]",
       .sentence = "Makes a small model and data, plans, trains and scores it; `make` only makes "
                   "the folder.",
       .groups = {Group::device},
       .words = {"make"},
       .adds_settings = true,
       .run = run_demo},
      {.name = "help",
       .usage = "[VERB | KEY | all | memory]",
       .sentence = "Explains a verb or a setting; `all` lists every key, `memory` explains the "
                   "words of plans, such as peak, arena, bound and classes.",
       .groups = {},
       .run = run_help},
  };
  return verbs;
}

int run_snug(std::span<const std::string> arguments, std::span<const Verb> verbs,
             Console& console) {
  const int status = run_safely(arguments, verbs, console);
  console.out.flush();
  if (console.out) return status;
  fmt::print(console.talk,
             "standard output could not be written (is its disk full, or its reader gone?); what "
             "was printed is not complete.\n");
  return status == kDone ? kUserError : status;
}

}  // namespace snug
