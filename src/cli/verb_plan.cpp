#include <fmt/ostream.h>

#include <nlohmann/json.hpp>

#include "cli/plan_request.h"
#include "cli/verbs.h"
#include "core/settings_load.h"
#include "core/text.h"
#include "passes/recompute.h"
#include "plan/recipe_text.h"
#include "plan/report.h"

namespace snug {
namespace {

void print_rules(const PlannedRun& run, const Recipe& recipe, std::ostream& out) {
  const std::int64_t parameters = parameter_count(run.model.config);
  const std::int64_t tokens = recipe.micro_rows * run.request.lengths.back();
  fmt::print(out,
             "rule of thumb: 16 N = {} for {} parameters; a layer's activations 2·B·S·H·10 = {}\n",
             binary_bytes(16 * parameters), group_digits(parameters),
             binary_bytes(20 * tokens * run.model.config.hidden_size));
}

/// What each choice of the recipe saves and costs, by leaving it out.
void print_savings(const PlannedRun& run, const Recipe& recipe, std::ostream& out) {
  const auto compare = [&](const char* what, const Settings& without, std::int64_t micro,
                           std::int64_t flops) {
    const Recipe other = compile_recipe(run.request, without, micro, *run.kernels, nullptr);
    fmt::print(out, "  {}: saves {}, costs {:.2f} TFLOP a step\n", what,
               binary_bytes(other.needed_bytes - recipe.needed_bytes),
               static_cast<double>(flops) * 1e-12);
  };
  Settings without = recipe.settings;
  without.recompute = recompute_candidates(run.model.config.num_hidden_layers).front();
  std::int64_t flops = 0;
  for (const Program& program : recipe.module->programs) {
    flops = std::max(flops, recomputed_flops(program.graph));
  }
  if (flops > 0) {
    compare("activation_checkpointing", without, recipe.micro_rows, flops * recipe.accumulation);
  }
  if (recipe.accumulation > 1) {
    compare("gradient accumulation", recipe.settings, recipe.rows_per_step, 0);
  }
}

void print_text(const Command& command, const PlannedRun& run, const Recipe& recipe,
                const MemoryReport& report, std::ostream& out) {
  fmt::print(out, "{}\n\n", describe_verdict(recipe, run.request.budget_bytes));
  fmt::print(out, "{}", report_text(report));
  fmt::print(out, "\ntechniques:\n");
  print_savings(run, recipe, out);
  print_rules(run, recipe, out);
  if (!recipe.fits) {
    const auto advice = advise(run.request, recipe, *run.kernels, 5);
    fmt::print(out, "\n{}\n", describe_misfit(run.request, recipe, advice));
    for (const Advice& change : advice) {
      fmt::print(out, "  {:<36} {:>10}{}\n", change.change, binary_bytes(change.needed_bytes),
                 change.fits ? "  fits" : "");
    }
  }
  fmt::print(out, "\n{}\n", repro_line("train", command.settings));
}

void print_json(const PlannedRun& run, const Recipe& recipe, const MemoryReport& report,
                std::ostream& out) {
  nlohmann::ordered_json json = {{"schema", 1}};
  json.update(report_json(report));
  json["needed_bytes"] = recipe.needed_bytes;
  json["budget_bytes"] = run.request.budget_bytes;
  json["outside_bytes"] = run.request.outside_bytes;
  json["recipe"] = describe_recipe(recipe);
  json["micro_batch"] = recipe.micro_rows;
  json["gradient_accumulation_steps"] = recipe.accumulation;
  if (!recipe.fits) {
    json["advice"] = nlohmann::ordered_json::array();
    for (const Advice& change : advise(run.request, recipe, *run.kernels, 5)) {
      json["advice"].push_back({{"change", change.change},
                                {"needed_bytes", change.needed_bytes},
                                {"fits", change.fits}});
    }
  }
  fmt::print(out, "{}\n", json.dump());
}

}  // namespace

int run_plan(const Command& command, Console& console) {
  require_setting(command.settings, "model_name_or_path", "plan");
  const PlannedRun run = plan_request(command.settings);
  const Recipe recipe = choose_recipe(run.request, *run.kernels, nullptr);
  MemoryReport report = make_report(recipe.plan);
  report.budget_bytes = run.request.budget_bytes;
  report.outside_bytes = run.request.outside_bytes;
  if (command.json) {
    print_json(run, recipe, report, console.out);
  } else {
    print_text(command, run, recipe, report, console.out);
  }
  return recipe.fits ? kDone : kDoesNotFit;
}

}  // namespace snug
