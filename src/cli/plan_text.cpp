#include "cli/plan_text.h"

#include <fmt/ostream.h>

#include "core/settings_load.h"
#include "core/text.h"
#include "passes/quantize.h"
#include "passes/recompute.h"
#include "plan/notes.h"
#include "plan/recipe_text.h"

namespace snug {
namespace {

/// The recipe in one micro-batch; a limit of activations grows with the rows.
Settings without_accumulation(const Recipe& recipe) {
  Settings settings = recipe.settings;
  if (const auto limit = limit_of(settings.recompute)) {
    settings.recompute = recompute_under(*limit * recipe.accumulation);
  }
  return settings;
}

std::int64_t saved_bytes(const Recipe& recipe) {
  std::int64_t bytes = 0;
  for (const SavedLayer& layer : saved_for_backward(recipe.plan, micro_program(recipe))) {
    bytes += layer.bytes;
  }
  return bytes;
}

/// What each choice of the recipe saves and costs, by leaving it out.
void print_savings(const RunRequest& run, const Recipe& recipe, std::ostream& out) {
  const auto without = [&](const Settings& settings, std::int64_t micro) {
    return compile_recipe(run.recipe, settings, micro, *run.kernels, nullptr);
  };
  const auto saved = [&](const Recipe& other) {
    return binary_bytes(other.needed_bytes - recipe.needed_bytes);
  };
  const Recomputed again = recomputed_of(recipe);
  if (again.flops > 0) {
    Settings settings = recipe.settings;
    settings.recompute = nothing_recomputed();
    const Recipe other = without(settings, recipe.micro_rows);
    const std::int64_t before = saved_bytes(other);
    const std::int64_t now = saved_bytes(recipe);
    fmt::print(
        out,
        "  activation_checkpointing: saves {}, of what forward leaves for backward {:.1f} % "
        "({} of {}); costs {:.2f} TFLOP a step, {:.2f} of one forward, {:.1f} % more than a "
        "step without\n",
        saved(other),
        before == 0 ? 0.0 : 100 * static_cast<double>(before - now) / static_cast<double>(before),
        binary_bytes(before - now), binary_bytes(before),
        static_cast<double>(again.flops * recipe.accumulation) * 1e-12, again.forwards,
        100 * again.steps);
  }
  if (quantizes(recipe.settings.quantization)) {
    Settings settings = recipe.settings;
    settings.quantization = {};
    fmt::print(out, "  {} base: saves {}\n", name_of(packed_format(recipe.settings.quantization)),
               saved(without(settings, recipe.micro_rows)));
  }
  if (recipe.settings.mlp_chunks.count > 1) {
    Settings settings = recipe.settings;
    settings.mlp_chunks = {};
    fmt::print(out, "  mlp_chunks: saves {}\n", saved(without(settings, recipe.micro_rows)));
  }
  if (recipe.accumulation > 1) {
    fmt::print(out, "  gradient accumulation: saves {}\n",
               saved(without(without_accumulation(recipe), recipe.rows_per_step)));
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

void print_misfit(const RunRequest& run, const Recipe& recipe, std::ostream& out) {
  const auto advice = advise(run.recipe, recipe, *run.kernels, 5);
  fmt::print(out, "\n{}\n", describe_misfit(run.recipe, recipe, advice));
  for (const Advice& change : advice) {
    fmt::print(out, "  {:<36} {:>10}{}\n", change.change, binary_bytes(change.needed_bytes),
               change.fits ? "  fits" : "");
  }
}

void print_details(const RunRequest& run, const Recipe& recipe, const PlanFacts& facts,
                   const MemorySummary& summary, const MemoryReport& report, std::ostream& out) {
  fmt::print(out, "\n");
  for (const std::string& note : detailed_notes(facts, summary)) fmt::print(out, "{}\n", note);
  fmt::print(out, "\n{}\n{}\ntechniques:\n", saved_text(facts), report_text(report));
  print_savings(run, recipe, out);
}

/// Whether the command could start as it stands.
bool can_start(const Settings& settings, const ModelSource& model, const Recipe& recipe) {
  const bool filled = model.has_weights || settings.model.init == InitWeights::random;
  return recipe.fits && filled && !settings.data.train_files.empty() && !settings.device.profile;
}

}  // namespace

Recomputed recomputed_of(const Recipe& recipe) {
  const Graph& graph = recipe.plan.graph(micro_program(recipe));
  const std::int64_t again = recomputed_flops(graph);
  std::int64_t all = 0;
  for (const Node& node : graph.nodes) all += cost_of(graph, node).flops;
  const auto share = [&](std::int64_t whole) {
    return static_cast<double>(again) / static_cast<double>(whole);
  };
  return {again, share(forward_flops(graph)), share(all - again)};
}

void print_plan(const Settings& settings, const ModelSource& model, const RunRequest& run,
                const Recipe& recipe, const MemoryReport& report, std::ostream& out) {
  const PlanFacts facts = plan_facts(run.recipe.config, recipe, report);
  const MemorySummary summary = summarize(report);
  fmt::print(out, "{}\n", describe_verdict(recipe, run.recipe.budget_bytes));
  if (!settings.device.memory) fmt::print(out, "memory: {}\n", run.budget_from);
  if (recipe.needed_bytes == recipe.planning_bytes) {
    fmt::print(out, "memory: making the plan takes {}, more than playing it\n",
               binary_bytes(recipe.planning_bytes));
  }
  fmt::print(out, "{}\n", describe_parameters(facts.parameters));
  print_card(run.recipe.target.card, out);
  fmt::print(out, "\n{}", summary_text(summary));
  for (const std::string& note : short_notes(facts, recipe, summary)) {
    fmt::print(out, "{}\n", note);
  }
  if (settings.plan.details) {
    print_details(run, recipe, facts, summary, report, out);
  } else {
    fmt::print(out, "more: details=true, and `snug help memory` for the words\n");
  }
  if (!recipe.fits) print_misfit(run, recipe, out);
  if (!can_start(settings, model, recipe)) return;
  Settings shown = settings;
  shown.origins.erase("details");  // a matter of this command alone
  fmt::print(out, "\n{}\n", repro_line("train", shown));
}

}  // namespace snug
