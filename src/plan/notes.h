#pragma once
// What a plan tells about a run beyond its bytes: figures first, sentences second.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "plan/recipe.h"
#include "plan/summary.h"

namespace snug {

/// What a layer's forward keeps for backward.
struct SavedLayer {
  int layer = -1;  ///< -1: outside the layers
  std::int64_t bytes = 0;
  std::vector<AliveValue> values;  ///< largest first
};

/// Activations that a program's forward leaves for its backward, by layer, ascending; a layer's
/// output is its own, not the next one's. `program` is one with both phases.
std::vector<SavedLayer> saved_for_backward(const Plan& plan, std::int32_t program);

/// The program of the recipe's longest micro-batch, and that one's capacity.
std::int32_t micro_program(const Recipe& recipe);
std::int64_t micro_tokens(const Recipe& recipe);

/// Elements of a model's parameters, adapters included.
struct ParameterCount {
  std::int64_t all = 0;
  std::int64_t trainable = 0;
};
ParameterCount count_parameters(const ParameterTable& parameters);
/// `494,032,768 parameters, all trained`; `..., 1,081,344 trained (0.22 %)`.
std::string describe_parameters(const ParameterCount& count);

/// Figures of a plan; bytes of values as they are, without alignment, unless it says otherwise.
struct PlanFacts {
  ParameterCount parameters;
  /// 16 bytes a parameter for weights, gradients, Adam's moments and an fp32 master; only where
  /// that is what the run holds: all is trained, with two fp32 moments.
  std::optional<std::int64_t> rule_of_thumb;
  std::int64_t master_bytes = 0;
  std::int64_t state_bytes = 0;     ///< the optimizer's
  std::int64_t gradient_bytes = 0;  ///< of all that is trained
  std::int64_t gradients_most = 0;  ///< that exist at once, at the peaks of the phases
  bool gradients_add_up = false;    ///< over micro-batches: they live through the step
  std::int64_t tokens = 0;          ///< of the longest micro-batch, padding included
  std::int64_t layer_formula = 0;   ///< 2·B·S·H·10
  std::vector<SavedLayer> saved;    ///< aligned, as planned
  std::int64_t score_bytes = 0;     ///< of a layer's attention scores, which are never held
  std::int64_t scores_length = 0;   ///< the tokens each row of scores is for
  int layers = 0;

  /// The layer that keeps most; nullptr when none keeps anything.
  const SavedLayer* largest_layer() const;
};

PlanFacts plan_facts(const ModelConfig& config, const Recipe& recipe, const MemoryReport& report);

/// The sentences that belong beside the six lines, few and short.
std::vector<std::string> short_notes(const PlanFacts& facts, const Recipe& recipe,
                                     const MemorySummary& summary);

/// The others: why the figures are what they are.
std::vector<std::string> detailed_notes(const PlanFacts& facts, const MemorySummary& summary);

/// One layer's values for backward; lines end with '\n'. Empty when no layer keeps anything.
std::string saved_text(const PlanFacts& facts);

}  // namespace snug
