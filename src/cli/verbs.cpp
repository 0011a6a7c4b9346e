#include "cli/verbs.h"

#include <fmt/ostream.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/help.h"
#include "core/error.h"
#include "train/run_setup.h"

namespace snug {
namespace {

/// All that says what a run is, and what the verb shows of it.
std::vector<Group> plan_groups() {
  std::vector<Group> groups(run_groups().begin(), run_groups().end());
  groups.push_back(Group::plan);
  return groups;
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
  console.out.flush();
  return status;
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
  const Command command{line.verb, std::move(line.words), line.json,
                        with_adapter(make_settings(line.assignments))};
  for (const std::string& note : command.settings.notes) {
    fmt::print(console.talk, "{}\n", note);
  }
  return verb.run(command, console);
}

}  // namespace

std::span<const Verb> verb_table() {
  static const std::vector<Verb> verbs = {
      {.name = "train",
       .usage = "[config.yaml] model=FOLDER data=FILE [key=value ...]",
       .sentence = "Plans, trains and saves a model.",
       .groups = {run_groups().begin(), run_groups().end()},
       .run = run_train},
      {.name = "plan",
       .usage = "[config.yaml] model=FOLDER|shape:NAME [key=value ...]",
       .sentence = "Shows the memory a run needs, before the run; needs no weights.",
       .groups = plan_groups(),
       .run = run_plan},
      {.name = "explain",
       .usage = "[config.yaml] model=FOLDER|shape:NAME [after=PASS] [kernels=true]",
       .sentence = "Prints the graph after a pass, or the kernels chosen and why others refused.",
       .groups = {Group::explain},
       .run = run_explain},
      {.name = "eval",
       .usage = "model=FOLDER eval_file=FILE [key=value ...]",
       .sentence = "Measures a model's loss on data.",
       .groups = {Group::model, Group::data, Group::device},
       .run = run_eval},
      {.name = "generate",
       .usage = "model=FOLDER prompt=TEXT [max_new_tokens=N] [do_sample=true] [key=value ...]",
       .sentence = "Continues a text.",
       .groups = {Group::model, Group::generate, Group::device},
       .run = run_generate},
      {.name = "merge",
       .usage = "model=ADAPTER output_dir=FOLDER [data=FILE]",
       .sentence = "Merges an adapter into its base, tensor by tensor; with data, says how far the "
                   "logits of its first rows then are from the two apart.",
       .groups = {Group::model, Group::tuning, Group::data, Group::saving},
       .run = run_merge},
      {.name = "inspect",
       .usage = "model=FOLDER [data=FILE] [rows=N]",
       .sentence = "Shows rows as they will be trained, or what a model folder holds.",
       .groups = {Group::model, Group::data, Group::inspect},
       .run = run_inspect},
      {.name = "export",
       .usage = "model=FOLDER output_dir=FOLDER [export_format=gguf] [export_dtype=TYPE]",
       .sentence = "Writes a model in another type or as a GGUF file for llama.cpp.",
       .groups = {Group::model, Group::exporting},
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
       .run = run_demo},
      {.name = "help",
       .usage = "[VERB | KEY | settings | memory]",
       .sentence =
           "Explains a verb or a setting; `settings` lists every key, `memory` explains the "
           "words of plans, such as peak, arena, bound and classes.",
       .groups = {},
       .run = run_help},
  };
  return verbs;
}

int run_snug(std::span<const std::string> arguments, std::span<const Verb> verbs,
             Console& console) {
  const bool json = std::find(arguments.begin(), arguments.end(), "--json") != arguments.end();
  try {
    const int status = run_line(parse_command_line(arguments, verbs), verbs, console);
    console.out.flush();
    return status;
  } catch (const DoesNotFit& error) {
    return report("does_not_fit", error.what(), kDoesNotFit, json, console);
  } catch (const UserError& error) {
    return report("user", error.what(), kUserError, json, console);
  } catch (const std::exception& error) {
    return report("internal", error.what(), kInternalError, json, console);
  }
}

}  // namespace snug
