#include "passes/optimizers/rule.h"

#include <algorithm>

#include "core/error.h"
#include "core/philox.h"
#include "core/settings_value.h"

namespace snug {
namespace {

ValueId scalar(Builder& builder, const char* name, DType type) {
  const ValueId known = builder.graph().find(name);
  return exists(known) ? known : builder.input(name, {type, Shape{}}, Role::scalar, Scope::run);
}

/// Emits the node that gives a run-scoped value its first contents.
ValueId initial(Builder& builder, Role role, Op op, std::vector<ValueId> inputs,
                const Attributes& attributes, const std::string& name) {
  builder.set_phase(Phase::init);
  builder.set_role(role);
  const ValueId id = builder.one(op, std::move(inputs), attributes, name);
  builder.graph().value(id).scope = Scope::run;
  builder.set_phase(Phase::update);
  return id;
}

}  // namespace

void ParameterUpdate::add_state(std::string_view component, const TensorType& type) {
  const std::string name = fmt::format("{}.{}", parameter_.name, component);
  parameter_.storage.push_back({std::string(component), "plain", name, type});
  builder_.set_layer(parameter_.layer);
  states_.push_back(initial(builder_, Role::optimizer_state, Op::fill, {},
                            {{"value", 0.0},
                             {"dtype", std::string(name_of(type.dtype))},
                             {"shape", shape_text(type.shape)}},
                            name));
}

void ParameterUpdate::add_state(std::string_view component) {
  add_state(component, {DType::f32, shape()});
}

void ParameterUpdate::add_scalar(const char* name) {
  own_scalars_.push_back(scalar(builder_, name, DType::f32));
}

/// The fp32 master, made from the stored weight before the first step; kNoValue without one.
ValueId ParameterUpdate::master() {
  const auto component =
      std::find_if(parameter_.storage.begin(), parameter_.storage.end(),
                   [](const StorageComponent& s) { return s.component == "master"; });
  if (component == parameter_.storage.end()) return kNoValue;
  return initial(builder_, Role::master, Op::cast, {builder_.graph().find(parameter_.name)},
                 {{"dtype", "f32"}}, component->value);
}

void ParameterUpdate::emit(Op op, Attributes attributes, double weight_decay) {
  Graph& graph = builder_.graph();
  builder_.set_layer(parameter_.layer);
  const ValueId weight = graph.find(parameter_.name);
  const ValueId p = master();
  const bool stochastic = !exists(p) && graph.value(weight).type.dtype != DType::f32;
  attributes.set("weight_decay", parameter_.decay ? weight_decay : 0.0);
  if (stochastic) {
    attributes.set("seed", seed_);
    attributes.set("stream", static_cast<std::int64_t>(stream_hash(parameter_.name)));
  }
  const ValueId draw = stochastic ? scalar(builder_, "scalar/draw", DType::i64) : kNoValue;
  std::vector<ValueId> operands{
      weight,        gradient_,      p,   scalar(builder_, "scalar/lr", DType::f32),
      scalars_.clip, scalars_.apply, draw};
  operands.insert(operands.end(), states_.begin(), states_.end());
  operands.insert(operands.end(), own_scalars_.begin(), own_scalars_.end());
  const int outputs = 1 + static_cast<int>(states_.size()) + (exists(p) ? 1 : 0);
  const auto updated = builder_.emit(op, std::move(operands), std::move(attributes),
                                     parameter_.name + ".updated", outputs);
  graph.outputs.insert(graph.outputs.end(), updated.begin(), updated.end());
}

double number_argument(const OptimizerSettings& settings, std::string_view name, double otherwise,
                       double lowest, double highest) {
  const auto given = settings.arguments.values.find(name);
  if (given == settings.arguments.values.end()) return otherwise;
  const auto number = parse_number(given->second);
  if (!number || *number < lowest || *number >= highest) {
    user_error("optim_args: {}={} is no number of at least {} and below {}.", name, given->second,
               lowest, highest);
  }
  return *number;
}

bool switch_argument(const OptimizerSettings& settings, std::string_view name, bool otherwise) {
  const auto given = settings.arguments.values.find(name);
  if (given == settings.arguments.values.end()) return otherwise;
  const auto value = parse_bool(given->second);
  if (!value) user_error("optim_args: {}={} is neither true nor false.", name, given->second);
  return *value;
}

bool has_coded_state(const Shape& shape) {
  constexpr std::int64_t kFewest = 4096;  // as in bitsandbytes
  return shape.elements() >= kFewest;
}

void add_coded_state(ParameterUpdate& update, std::string_view component,
                     std::string_view absmax_component) {
  const std::int64_t blocks = (update.shape().elements() + kCodeBlock - 1) / kCodeBlock;
  update.add_state(component, {DType::u8, update.shape()});
  update.add_state(absmax_component, {DType::f32, {blocks}});
}

}  // namespace snug
