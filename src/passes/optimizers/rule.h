#pragma once
// What an optimizer is to the optimizer pass: a rule that emits one update a parameter.

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/builder.h"
#include "passes/optimizer.h"

namespace snug {

/// What the pass has made ready for all updates of a step.
struct StepScalars {
  ValueId clip = kNoValue;   ///< every gradient is multiplied by it
  ValueId apply = kNoValue;  ///< 0: nothing changes
};

/// One parameter's update while its rule describes it.
class ParameterUpdate {
 public:
  ParameterUpdate(Builder& builder, Parameter& parameter, ValueId gradient,
                  const StepScalars& scalars, std::int64_t seed)
      : builder_(builder),
        parameter_(parameter),
        gradient_(gradient),
        scalars_(scalars),
        seed_(seed) {}

  const Shape& shape() const { return parameter_.type.shape; }

  /// A state that is zero before the first step, named `PARAMETER.component`.
  void add_state(std::string_view component, const TensorType& type);
  /// An fp32 state of the parameter's shape.
  void add_state(std::string_view component);
  /// A scalar that the rule sets before each step.
  void add_scalar(const char* name);
  /// Emits the update, once, with the states and scalars in the order they were added.
  void emit(Op op, Attributes attributes, double weight_decay);

 private:
  ValueId master();

  Builder& builder_;
  Parameter& parameter_;
  ValueId gradient_;
  const StepScalars& scalars_;
  std::int64_t seed_;
  std::vector<ValueId> states_;
  std::vector<ValueId> own_scalars_;
};

struct OptimizerRule {
  Optimizer name;
  std::string_view note;  ///< what the log says of it; may be empty
  /// Describes and emits the update of one parameter.
  void (*update)(ParameterUpdate&, const OptimizerSettings&);
  /// Sets the scalars added by `update` but scalar/lr, for update number t; absent: none.
  void (*scalars)(const OptimizerSettings&, double learning_rate, double t, SetScalar) = nullptr;
  /// The names of optim_args it knows.
  std::span<const std::string_view> arguments = {};
};

/// A number of optim_args; UserError when it is none or not in [lowest, highest).
double number_argument(const OptimizerSettings& settings, std::string_view name, double otherwise,
                       double lowest, double highest);
/// A switch of optim_args; UserError when it is neither.
bool switch_argument(const OptimizerSettings& settings, std::string_view name, bool otherwise);

/// Whether tensors of this shape have 8-bit states: small ones gain nothing.
bool has_coded_state(const Shape& shape);
/// Adds codes and absmax: `component` and `absmax_component`.
void add_coded_state(ParameterUpdate& update, std::string_view component,
                     std::string_view absmax_component);

// The rules, one file each.
std::span<const OptimizerRule> adamw_rules();
std::span<const OptimizerRule> adamw_8bit_rules();
std::span<const OptimizerRule> adafactor_rules();
std::span<const OptimizerRule> lion_rules();
std::span<const OptimizerRule> sgd_rules();

}  // namespace snug
