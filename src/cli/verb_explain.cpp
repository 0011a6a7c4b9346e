#include <fmt/ostream.h>

#include "cli/plan_request.h"
#include "cli/verbs.h"
#include "core/error.h"
#include "core/settings_load.h"
#include "ir/text.h"
#include "plan/report.h"

namespace snug {

int run_explain(const Command& command, Console& console) {
  require_setting(command.settings, "model_name_or_path", "explain");
  const PlannedRun run = plan_request(command.settings);
  const std::string& wanted = command.settings.explain.after;
  // The search compiles many candidates; the trace belongs to the one that is chosen.
  const Recipe chosen = choose_recipe(run.request, *run.kernels, nullptr);
  std::string text;
  std::vector<std::string> seen;
  PipelineTrace trace;
  trace.after = [&](std::string_view pass, const Graph& graph) {
    seen.emplace_back(pass);
    if (wanted.empty() || pass == wanted) text = print_graph(graph);
  };
  const Recipe recipe =
      compile_recipe(run.request, chosen.settings, chosen.micro_rows, *run.kernels, &trace);
  if (command.settings.explain.kernels) {
    fmt::print(console.out, "{}", kernels_text(recipe.plan));
    return kDone;
  }
  if (text.empty()) {
    user_error("after={}: no such pass. Passes in order: {}.", wanted, fmt::join(seen, ", "));
  }
  for (const PassRecord& record : trace.records) {
    fmt::print(console.talk, "{:<18} {:>8.2f} ms  {:>6} → {} nodes\n", record.name,
               record.seconds * 1e3, record.nodes_before, record.nodes_after);
  }
  fmt::print(console.out, "{}", text);
  return kDone;
}

}  // namespace snug
