#pragma once
// What AdamW shares with its 8-bit forms.

#include "passes/optimizers/rule.h"

namespace snug {

/// scalar/correction1 and scalar/correction2: 1 - beta^t.
void set_adam_corrections(const OptimizerSettings& settings, double learning_rate, double t,
                          SetScalar set);
Attributes adam_attributes(const OptimizerSettings& settings);
/// AdamW with fp32 moments in components `m` and `v`.
void emit_adamw(ParameterUpdate& update, const OptimizerSettings& settings, std::string_view m,
                std::string_view v);

}  // namespace snug
