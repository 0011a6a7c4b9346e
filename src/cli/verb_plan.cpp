#include <fmt/ostream.h>

#include <nlohmann/json.hpp>

#include "cli/plan_request.h"
#include "cli/verbs.h"
#include "core/settings_load.h"
#include "core/settings_table.h"
#include "core/text.h"
#include "passes/quantize.h"
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

/// Of a micro-batch: what backward computes again, also as a share of one forward.
struct Recomputed {
  std::int64_t flops = 0;
  double forwards = 0;
};

Recomputed recomputed_of(const Recipe& recipe) {
  const StepScript::Bucket& bucket = recipe.module->script.buckets.back();
  const std::int32_t index = bucket.whole_step >= 0 ? bucket.whole_step : bucket.first;
  const Graph& graph = recipe.module->programs[static_cast<std::size_t>(index)].graph;
  const std::int64_t flops = recomputed_flops(graph);
  return {flops, static_cast<double>(flops) / static_cast<double>(forward_flops(graph))};
}

/// The recipe in one micro-batch; a limit of activations grows with the rows.
Settings without_accumulation(const Recipe& recipe) {
  Settings settings = recipe.settings;
  if (const auto limit = limit_of(settings.recompute)) {
    settings.recompute = recompute_under(*limit * recipe.accumulation);
  }
  return settings;
}

/// What each choice of the recipe saves and costs, by leaving it out.
void print_savings(const PlannedRun& run, const Recipe& recipe, std::ostream& out) {
  const auto saved = [&](const Settings& without, std::int64_t micro) {
    const Recipe other = compile_recipe(run.request, without, micro, *run.kernels, nullptr);
    return binary_bytes(other.needed_bytes - recipe.needed_bytes);
  };
  const Recomputed again = recomputed_of(recipe);
  if (again.flops > 0) {
    Settings without = recipe.settings;
    without.recompute = nothing_recomputed();
    fmt::print(out,
               "  activation_checkpointing: saves {}, costs {:.2f} TFLOP a step, {:.2f} of one "
               "forward\n",
               saved(without, recipe.micro_rows),
               static_cast<double>(again.flops * recipe.accumulation) * 1e-12, again.forwards);
  }
  if (quantizes(recipe.settings.quantization)) {
    Settings without = recipe.settings;
    without.quantization = {};
    fmt::print(out, "  {} base: saves {}\n", name_of(packed_format(recipe.settings.quantization)),
               saved(without, recipe.micro_rows));
  }
  if (recipe.settings.mlp_chunks.count > 1) {
    Settings without = recipe.settings;
    without.mlp_chunks = {};
    fmt::print(out, "  mlp_chunks: saves {}\n", saved(without, recipe.micro_rows));
  }
  if (recipe.accumulation > 1) {
    fmt::print(out, "  gradient accumulation: saves {}\n",
               saved(without_accumulation(recipe), recipe.rows_per_step));
  }
}

/// The card, and what it takes beside the arena.
void print_card(const Card& card, std::ostream& out) {
  if (!card.present()) return;
  fmt::print(
      out, "card: {}\ncontext and libraries: {} ({})\n", describe(card),
      binary_bytes(card.overhead_bytes),
      card.measured ? "measured on such a card" : "an estimate: not measured on such a card yet");
}

void print_text(const Command& command, const PlannedRun& run, const Recipe& recipe,
                const MemoryReport& report, std::ostream& out) {
  fmt::print(out, "{}\n", describe_verdict(recipe, run.request.budget_bytes));
  print_card(run.request.target.card, out);
  fmt::print(out, "\n");
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
  if (const Card& card = run.request.target.card; card.present()) {
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
                       {"forwards", again.forwards}};
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
