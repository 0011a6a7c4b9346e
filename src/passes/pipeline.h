#pragma once
// From a model's configuration to every program of a run: the list of passes, in order.

#include <cstdint>
#include <vector>

#include "core/settings.h"
#include "ir/program.h"
#include "model/decoder.h"
#include "passes/pass.h"

namespace snug {

/// The shapes a training run needs programs for.
struct StepRequest {
  std::int64_t rows = 1;                              ///< sequences of a micro-batch
  std::vector<std::int64_t> lengths;                  ///< of training's buckets, ascending
  bool accumulate = false;                            ///< steps may have more than one micro-batch
  std::vector<std::int64_t> evaluation_lengths = {};  ///< of evaluation's buckets, ascending
  std::int64_t rope_positions = 1;
};

/// Compiles the training step: for each bucket `step.LENGTH`, or `micro.LENGTH.first` and
/// `micro.LENGTH.next` beside one `update` when accumulating; `eval.LENGTH` for each evaluation
/// length; `init`. Without a training length: evaluation alone.
/// `settings.recompute` must be resolved (not automatic). `trace` may be nullptr; it sees the
/// passes over the longest bucket's training graph.
StepModule compile_step(const ModelConfig& config, const StepRequest& request,
                        const Settings& settings, PipelineTrace* trace);

/// Compiles generation: `init`, `prefill` (capacity.tokens tokens a call) and `decode` (one token).
/// In the script's first bucket `first` is prefill and `next` is decode.
StepModule compile_generation(const ModelConfig& config, GenerationCapacity capacity,
                              const Settings& settings);

/// The training graph of the longest bucket as the recompute pass gets it.
Graph graph_before_recompute(const ModelConfig& config, const StepRequest& request,
                             const Settings& settings);

/// The passes that make a training graph out of a loss graph, in order.
std::vector<Pass> training_passes(const Settings& settings);

}  // namespace snug
