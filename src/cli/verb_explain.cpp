#include <fmt/ostream.h>

#include "cli/verbs.h"
#include "core/error.h"
#include "ir/text.h"
#include "plan/report.h"
#include "train/request.h"

namespace snug {

int run_explain(const Command& command, Console& console) {
  const ModelSource model = open_model(command.settings.model);
  const DataSource data = open_data(command.settings, model);
  const RunRequest run = make_request(command.settings, model, data, nullptr);
  const std::string& wanted = command.settings.explain.after;
  // The search compiles many candidates; the trace belongs to the one that is chosen.
  const Recipe chosen = make_recipe(run, model);
  std::string text;
  std::vector<std::string> seen;
  PipelineTrace trace;
  trace.after = [&](std::string_view pass, const Graph& graph) {
    seen.emplace_back(pass);
    if (wanted.empty() || pass == wanted) text = print_graph(graph);
  };
  const Recipe recipe =
      compile_recipe(run.recipe, chosen.settings, chosen.micro_rows, *run.kernels, &trace);
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
