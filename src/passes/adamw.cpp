#include "passes/adamw.h"

#include <algorithm>

#include "core/philox.h"
#include "ir/builder.h"

namespace snug {
namespace {

ValueId scalar(Builder& builder, const char* name, DType type) {
  const ValueId known = builder.graph().find(name);
  return exists(known) ? known : builder.input(name, {type, Shape{}}, Role::scalar, Scope::run);
}

/// The newest version of a parameter's gradient.
ValueId gradient_of(const Graph& graph, const std::string& parameter) {
  const ValueId root = graph.find(parameter + ".grad");
  check(exists(root), "parameter '{}' has no gradient", parameter);
  ValueId newest = root;
  for (const ValueId id : graph.outputs) {
    if (graph.root(id) == root) newest = id;
  }
  return newest;
}

struct StepScalars {
  ValueId lr, correction1, correction2, clip, apply;
};

StepScalars add_norm(Builder& builder, const std::vector<ValueId>& gradients, double max_norm) {
  builder.set_role(Role::metric);
  const auto norm =
      builder.emit(Op::global_norm, gradients, {{"max_norm", max_norm}}, "metric/grad_norm");
  Graph& graph = builder.graph();
  graph.rename_value(norm[2], "metric/finite");
  const ValueId applied = builder.one(
      Op::apply_gate, {norm[2], scalar(builder, "scalar/apply", DType::i32)}, {}, "metric/applied");
  graph.outputs.insert(graph.outputs.end(), {norm[0], norm[2], applied});
  return {scalar(builder, "scalar/lr", DType::f32),
          scalar(builder, "scalar/correction1", DType::f32),
          scalar(builder, "scalar/correction2", DType::f32), norm[1], applied};
}

/// A run-scoped fp32 state of the parameter's shape, zero before the first step.
ValueId zero_state(Builder& builder, Parameter& parameter, const char* component) {
  const TensorType state{DType::f32, parameter.type.shape};
  const std::string name = fmt::format("{}.{}", parameter.name, component);
  parameter.storage.push_back({component, "plain", name, state});
  builder.set_phase(Phase::init);
  builder.set_role(Role::optimizer_state);
  const ValueId id = builder.one(
      Op::fill, {}, {{"value", 0.0}, {"dtype", "f32"}, {"shape", shape_text(state.shape)}}, name);
  builder.graph().value(id).scope = Scope::run;
  builder.set_phase(Phase::update);
  return id;
}

/// The fp32 master, made from the stored weight before the first step; kNoValue without one.
ValueId master_of(Builder& builder, const Parameter& parameter) {
  const auto component =
      std::find_if(parameter.storage.begin(), parameter.storage.end(),
                   [](const StorageComponent& s) { return s.component == "master"; });
  if (component == parameter.storage.end()) return kNoValue;
  builder.set_phase(Phase::init);
  builder.set_role(Role::master);
  const ValueId id = builder.one(Op::cast, {builder.graph().find(parameter.name)},
                                 {{"dtype", "f32"}}, component->value);
  builder.graph().value(id).scope = Scope::run;
  builder.set_phase(Phase::update);
  return id;
}

void add_update(Builder& builder, Parameter& parameter, ValueId gradient,
                const StepScalars& scalars, const OptimizerOptions& options, std::int64_t seed) {
  Graph& graph = builder.graph();
  const ValueId weight = graph.find(parameter.name);
  builder.set_layer(parameter.layer);
  const ValueId m = zero_state(builder, parameter, "exp_avg");
  const ValueId v = zero_state(builder, parameter, "exp_avg_sq");
  const ValueId master = master_of(builder, parameter);
  const bool stochastic = !exists(master) && graph.value(weight).type.dtype != DType::f32;
  Attributes attributes{{"beta1", options.adam_beta1},
                        {"beta2", options.adam_beta2},
                        {"eps", options.adam_epsilon},
                        {"weight_decay", parameter.decay ? options.weight_decay : 0.0}};
  if (stochastic) {
    attributes.set("seed", seed);
    attributes.set("stream", static_cast<std::int64_t>(stream_hash(parameter.name)));
  }
  const ValueId draw = stochastic ? scalar(builder, "scalar/draw", DType::i64) : kNoValue;
  const auto updated =
      builder.emit(Op::adamw,
                   {weight, gradient, m, v, master, scalars.lr, scalars.correction1,
                    scalars.correction2, scalars.clip, scalars.apply, draw},
                   attributes, parameter.name + ".updated", exists(master) ? 4 : 3);
  graph.outputs.insert(graph.outputs.end(), updated.begin(), updated.end());
}

Graph run(Graph graph, const OptimizerOptions& options, std::int64_t seed) {
  Builder builder(graph);
  builder.set_phase(Phase::update);
  std::vector<ValueId> gradients;
  for (const Parameter& parameter : graph.parameters) {
    if (parameter.trainable) gradients.push_back(gradient_of(graph, parameter.name));
  }
  // What happens to gradients after the update is nobody's business: they are no outputs any more.
  std::erase_if(graph.outputs, [&](ValueId id) {
    return std::find(gradients.begin(), gradients.end(), id) != gradients.end();
  });
  const StepScalars scalars = add_norm(builder, gradients, options.max_grad_norm);
  std::size_t next = 0;
  for (std::size_t p = 0; p < graph.parameters.size(); ++p) {
    if (!graph.parameters[p].trainable) continue;
    add_update(builder, graph.parameters[p], gradients[next++], scalars, options, seed);
  }
  return graph;
}

}  // namespace

Pass adamw_pass(const OptimizerOptions& options, std::int64_t seed) {
  return {.name = "adamw",
          .needs = {facts::kDifferentiated, facts::kGradientsComplete},
          .gives = {facts::kOptimized},
          .breaks = {},
          .equality = Equality::exact,
          .run = [options, seed](Graph graph) { return run(std::move(graph), options, seed); }};
}

}  // namespace snug
