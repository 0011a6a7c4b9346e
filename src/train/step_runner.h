#pragma once
// Plays one optimizer step, or an evaluation, of a recipe on data. It sets scalars and inputs,
// plays the script and reads the results; it decides nothing.

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "data/batches.h"
#include "exec/executor.h"
#include "plan/recipe.h"

namespace snug {

/// Highest addresses of the device arena that a step's kernels were handed, in bytes.
struct StepMemory {
  std::int64_t forward = 0;
  std::int64_t backward = 0;
  std::int64_t update = 0;
  std::int64_t peak() const { return std::max({forward, backward, update}); }
};

/// What a step gave.
struct StepOutcome {
  double loss_sum = 0;      ///< cross-entropies of all labels of the step
  std::int64_t labels = 0;  ///< tokens predicted
  std::int64_t tokens = 0;  ///< tokens read, padding not counted
  std::int64_t padded = 0;  ///< tokens computed, padding counted
  double grad_norm = 0;     ///< before clipping
  bool finite = true;       ///< loss and gradients
  bool overflowed = false;  ///< gradients are not finite
  bool applied = true;      ///< weights were updated
  StepMemory memory;
  double loss() const { return labels == 0 ? 0.0 : loss_sum / static_cast<double>(labels); }
};

/// Sums over an evaluation set.
struct EvaluationOutcome {
  double loss_sum = 0;
  std::int64_t labels = 0;
  double loss() const { return labels == 0 ? 0.0 : loss_sum / static_cast<double>(labels); }
};

class StepRunner {
 public:
  /// `recipe` and `executor` must outlive the runner.
  StepRunner(const Recipe& recipe, Executor& executor);

  /// One step on `rows` (at most rows_per_step) of `data` with this learning rate, after `applied`
  /// applied updates, gradients multiplied by `loss_scale` until they are used. A step without a
  /// label is played as skipped.
  StepOutcome train(const Dataset& data, std::span<const std::int64_t> rows, double learning_rate,
                    std::int64_t applied, double loss_scale = 1);
  /// The loss of all rows of `data`, in order.
  EvaluationOutcome evaluate(const Dataset& data);

 private:
  /// Sets a scalar where some program has it.
  template <class T>
  void set(std::string_view name, T value) {
    if (executor_.plan().has_location(name)) executor_.value<T>(name)[0] = value;
  }
  void set_scalars(double learning_rate, std::int64_t applied, std::int64_t labels,
                   double loss_scale);
  /// Fills the inputs of `program` with the rows of one micro-batch.
  void fill(std::int32_t program, const Dataset& data, std::span<const std::int64_t> rows,
            std::int64_t length);
  std::span<const std::int64_t> slot_rows(std::span<const std::int64_t> rows,
                                          std::size_t slot) const;
  void read_outcome(std::int32_t program, StepOutcome& outcome) const;
  /// Of the programs that calls_ played.
  StepMemory used_memory() const;

  const Recipe& recipe_;
  Executor& executor_;
  std::vector<std::int64_t> lengths_;  ///< of training
  std::vector<std::int64_t> evaluation_lengths_;
  std::vector<std::int32_t> slot_buckets_;
  std::vector<ScriptCall> calls_;
};

}  // namespace snug
