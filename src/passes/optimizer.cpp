#include "passes/optimizer.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/settings_value.h"
#include "ir/storage_roots.h"
#include "passes/optimizers/rule.h"

namespace snug {
namespace {

const OptimizerRule& rule_of(const OptimizerSettings& settings) {
  for (const auto rules :
       {adamw_rules(), adamw_8bit_rules(), adafactor_rules(), lion_rules(), sgd_rules()}) {
    for (const OptimizerRule& rule : rules) {
      if (rule.name == settings.rule) return rule;
    }
  }
  internal_error("optim={} has no rule", name_of(settings.rule));
}

void check_arguments(const OptimizerSettings& settings, const OptimizerRule& rule) {
  for (const auto& [name, value] : settings.arguments.values) {
    if (std::find(rule.arguments.begin(), rule.arguments.end(), name) != rule.arguments.end()) {
      continue;
    }
    user_error("optim_args: optim={} has no argument '{}'. {}", name_of(rule.name), name,
               rule.arguments.empty()
                   ? std::string("It takes none.")
                   : fmt::format("It knows {}.", fmt::join(rule.arguments, ", ")));
  }
}

std::size_t at(ValueId id) { return static_cast<std::size_t>(id); }

/// The newest version of each trained parameter's gradient, which then is no output any more: what
/// happens to gradients after the update is nobody's business.
std::vector<ValueId> take_gradients(Graph& graph) {
  const std::vector<ValueId> roots = storage_roots(graph);
  std::vector<ValueId> newest(roots.size(), kNoValue);
  for (const ValueId id : graph.outputs) newest[at(roots[at(id)])] = id;
  std::vector<ValueId> gradients;
  std::vector<bool> taken(roots.size(), false);
  for (const Parameter& parameter : graph.parameters) {
    if (!parameter.trainable) continue;
    const ValueId root = graph.find(parameter.name + ".grad");
    check(exists(root), "parameter '{}' has no gradient", parameter.name);
    gradients.push_back(exists(newest[at(root)]) ? newest[at(root)] : root);
    taken[at(gradients.back())] = true;
  }
  std::erase_if(graph.outputs, [&](ValueId id) { return taken[at(id)]; });
  return gradients;
}

StepScalars add_norm(Builder& builder, const std::vector<ValueId>& gradients, double max_norm) {
  builder.set_role(Role::metric);
  const auto norm =
      builder.emit(Op::global_norm, gradients, {{"max_norm", max_norm}}, "metric/grad_norm");
  Graph& graph = builder.graph();
  graph.rename_value(norm[2], "metric/finite");
  const ValueId known = graph.find("scalar/apply");
  const ValueId wanted = exists(known) ? known
                                       : builder.input("scalar/apply", {DType::i32, Shape{}},
                                                       Role::scalar, Scope::run);
  const ValueId applied = builder.one(Op::apply_gate, {norm[2], wanted}, {}, "metric/applied");
  graph.outputs.insert(graph.outputs.end(), {norm[0], norm[2], applied});
  return {.clip = norm[1], .apply = applied};
}

Graph run(Graph graph, const OptimizerSettings& settings, const OptimizerRule& rule,
          std::int64_t seed) {
  Builder builder(graph);
  builder.set_phase(Phase::update);
  const std::vector<ValueId> gradients = take_gradients(graph);
  const StepScalars scalars = add_norm(builder, gradients, settings.max_grad_norm);
  std::size_t next = 0;
  for (Parameter& parameter : graph.parameters) {
    if (!parameter.trainable) continue;
    ParameterUpdate update(builder, parameter, gradients[next++], scalars, seed);
    rule.update(update, settings);
  }
  return graph;
}

}  // namespace

Pass optimizer_pass(const OptimizerSettings& settings, std::int64_t seed) {
  const OptimizerRule& rule = rule_of(settings);
  check_arguments(settings, rule);
  return {.name = "optimizer",
          .needs = {facts::kDifferentiated, facts::kGradientsComplete},
          .gives = {facts::kOptimized},
          .breaks = {},
          .equality = Equality::exact,
          .run = [settings, &rule, seed](Graph graph) {
            return run(std::move(graph), settings, rule, seed);
          }};
}

void set_update_scalars(const OptimizerSettings& settings, double learning_rate,
                        std::int64_t applied, SetScalar set) {
  set("scalar/lr", static_cast<float>(learning_rate));
  const OptimizerRule& rule = rule_of(settings);
  if (rule.scalars != nullptr) {
    rule.scalars(settings, learning_rate, static_cast<double>(applied + 1), set);
  }
}

std::string_view optimizer_note(const OptimizerSettings& settings) {
  return rule_of(settings).note;
}

}  // namespace snug
