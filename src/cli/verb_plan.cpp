#include <fmt/ostream.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "cli/plan_text.h"
#include "cli/verbs.h"
#include "core/settings_load.h"
#include "core/settings_table.h"
#include "plan/notes.h"
#include "plan/recipe_text.h"
#include "plan/report.h"
#include "train/request.h"
#include "train/run_folder.h"

namespace snug {
namespace {

nlohmann::ordered_json json_of(const PlanFacts& facts) {
  nlohmann::ordered_json json = {{"parameters", facts.parameters.all},
                                 {"trainable_parameters", facts.parameters.trainable},
                                 {"gradient_bytes", facts.gradient_bytes},
                                 {"optimizer_state_bytes", facts.state_bytes},
                                 {"layer_formula_bytes", facts.layer_formula},
                                 {"attention_score_bytes", facts.score_bytes}};
  if (facts.rule_of_thumb) json["rule_of_thumb_bytes"] = *facts.rule_of_thumb;
  nlohmann::ordered_json saved = nlohmann::ordered_json::object();
  for (const SavedLayer& layer : facts.saved) saved[std::to_string(layer.layer)] = layer.bytes;
  json["saved_by_layer"] = std::move(saved);
  return json;
}

nlohmann::ordered_json json_of(const MemorySummary& summary) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const UseBytes& row : summary.uses) json[std::string(name_of(row.use))] = row.bytes;
  json["peak"] = summary.peak;
  return json;
}

void print_json(const RunRequest& run, const Recipe& recipe, const MemoryReport& report,
                std::ostream& out) {
  nlohmann::ordered_json json = {{"schema", 1}};
  json.update(report_json(report));
  json["needed_bytes"] = recipe.needed_bytes;
  json["budget_bytes"] = run.recipe.budget_bytes;
  json["budget_from"] = run.budget_from;
  json["outside"] = {
      {"program", recipe.outside.program},     {"threads", recipe.outside.threads},
      {"rows", recipe.outside.rows},           {"history", recipe.outside.history},
      {"sequences", recipe.outside.sequences}, {"tables", recipe.outside.tables},
      {"files", recipe.outside.files},         {"page_tables", recipe.outside.page_tables}};
  json["summary"] = json_of(summarize(report));
  json["facts"] = json_of(plan_facts(run.recipe.config, recipe, report));
  if (const Card& card = run.recipe.target.card; card.present()) {
    json["card"] = {{"name", card.name},
                    {"compute", card.compute},
                    {"memory_bytes", card.memory_bytes},
                    {"overhead_bytes", card.overhead_bytes},
                    {"overhead_measured", card.measured}};
  }
  json["recipe"] = describe_recipe(recipe);
  json["micro_batch"] = recipe.micro_rows;
  json["gradient_accumulation_steps"] = recipe.accumulation;
  const Recomputed again = recomputed_of(recipe);
  json["recompute"] = {{"activation_checkpointing",
                        find_setting("activation_checkpointing").row->field.print(recipe.settings)},
                       {"flops", again.flops * recipe.accumulation},
                       {"forwards", again.forwards},
                       {"steps", again.steps}};
  if (!recipe.fits) {
    json["advice"] = nlohmann::ordered_json::array();
    for (const Advice& change : advise(run.recipe, recipe, *run.kernels, 5)) {
      json["advice"].push_back({{"change", change.change},
                                {"needed_bytes", change.needed_bytes},
                                {"fits", change.fits}});
    }
  }
  fmt::print(out, "{}\n", json.dump());
}

}  // namespace

int run_plan(const Command& command, Console& console) {
  const ModelSource model = open_model(command.settings.model);
  for (const std::string& note : model.notes) fmt::print(console.talk, "{}\n", note);
  const DataSource data = open_rows(command.settings, model);
  std::optional<Progression> before;
  const RunSettings& run_settings = command.settings.run;
  // Without a name for it, the run would choose a folder of its own.
  if (data.train.size() > 0 && run_settings.output_dir) {
    const RunFolder folder(command.settings, model, data.name,
                           {console.talk, console.talk_terminal.descriptor});
    if (!folder.resume_from().empty()) before = read_progression(folder.resume_from());
  } else if (!run_settings.resume.folder.empty()) {
    before = read_progression(run_settings.resume.folder);
  }
  const RunRequest run = make_request(command.settings, model, data, before ? &*before : nullptr);
  std::string said;
  const Recipe recipe = make_recipe(run, model, &said);
  fmt::print(console.talk, "{}", said);
  MemoryReport report = make_report(recipe.plan);
  report.budget_bytes = run.recipe.budget_bytes;
  report.outside_bytes = recipe.outside.total();
  report.planning_bytes = recipe.planning_bytes;
  if (command.json) {
    print_json(run, recipe, report, console.out);
  } else {
    print_plan(command.settings, model, run, recipe, report, console.out);
  }
  return recipe.fits ? kDone : kDoesNotFit;
}

}  // namespace snug
