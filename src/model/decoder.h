#pragma once
// The decoder-only transformer of the Llama, Mistral, Qwen2 and Qwen3 families as plain ops in
// fp32, with no technique anywhere. Touvron et al. 2023 (arXiv:2302.13971) and the families'
// reports.

#include <cstdint>

#include "ir/graph.h"
#include "model/config.h"

namespace snug {

/// The capacity of one micro-batch.
struct BatchCapacity {
  std::int64_t rows = 1;    ///< sequences
  std::int64_t length = 1;  ///< tokens a sequence
  std::int64_t tokens() const { return rows * length; }
};

/// The loss graph of one micro-batch of T = batch.tokens() tokens. Inputs: `input/ids`,
/// `input/labels` (the token to predict, -100 ignored), `input/positions`, `input/doc_start`, all
/// i32[T]; weights under their Hugging Face names. The rope tables `rope/cos`, `rope/sin`
/// f32[rope_positions, d/2] are run-scoped results of the init phase. Output: `metric/loss`, the
/// sum of the labelled tokens' cross-entropies. Fills the parameter table.
Graph build_loss(const ModelConfig& config, BatchCapacity batch, std::int64_t rope_positions);

/// Sizes of a generation graph.
struct GenerationCapacity {
  std::int64_t tokens = 1;      ///< fed in one call
  std::int64_t cache_rows = 1;  ///< tokens the key-value cache holds
  std::int64_t logit_rows = 1;  ///< rows of logits asked for
};

/// One call of generation: feeds `tokens` tokens at cache row `scalar/position` and gives the
/// logits f32[logit_rows, V] of the rows listed in `input/logit_rows` i32[logit_rows]. Inputs
/// `input/ids`, `input/positions` i32[tokens]. The cache is `cache/LAYER/key|value` [cache_rows, kv
/// heads, d], session-scoped. Output: `metric/logits`.
Graph build_generation(const ModelConfig& config, GenerationCapacity capacity,
                       std::int64_t rope_positions);

}  // namespace snug
