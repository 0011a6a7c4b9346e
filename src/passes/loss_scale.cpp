#include "passes/loss_scale.h"

#include <algorithm>

#include "ir/builder.h"
#include "ir/op.h"

namespace snug {
namespace {

Graph run(Graph graph) {
  const auto found = std::find_if(graph.nodes.begin(), graph.nodes.end(),
                                  [](const Node& node) { return node.op == Op::global_norm; });
  check(found != graph.nodes.end(), "the loss is scaled, and no norm tells whether it overflows");
  const auto position = found - graph.nodes.begin();
  const ValueId norm = found->outputs[0];
  const ValueId clip = found->outputs[1];
  const double max_norm = found->attributes.real("max_norm");
  found->attributes.set("max_norm", 0.0);

  const std::string name = graph.value(norm).name;
  graph.rename_value(norm, graph.fresh_name(name + ".scaled"));
  std::vector<Node> made;
  Builder builder(graph, made);
  const ValueId inverse =
      builder.input("scalar/inverse_scale", {DType::f32, Shape{}}, Role::scalar, Scope::run);
  builder.set_phase(Phase::update);
  builder.set_role(Role::metric);
  const auto results =
      builder.emit(Op::unscale_norm, {norm, inverse}, {{"max_norm", max_norm}}, name);
  graph.replace_uses(norm, results[0]);
  graph.replace_uses(clip, results[1]);
  graph.nodes.insert(graph.nodes.begin() + position + 1, made.begin(), made.end());
  return graph;
}

}  // namespace

Pass loss_scale_pass(bool scaled) {
  Pass pass{.name = "loss_scale",
            .needs = {},
            .gives = {},
            .breaks = {},
            .equality = Equality::exact,
            .run = nullptr};
  if (!scaled) return pass;
  pass.needs = {facts::kGradientsComplete, facts::kOptimized};
  pass.run = run;
  return pass;
}

}  // namespace snug
