#pragma once
// Gradient accumulation: later micro-batches of a step add to the gradients of the first.

#include "passes/pass.h"

namespace snug {

/// Gives the gradients step scope, so that they live from micro-batch to micro-batch.
Pass open_accumulation_pass();

/// Turns the first contribution to each gradient into an addition to the step's gradient, which
/// becomes an input of the program. Gradients stored in bf16 are added in fp32 and rounded
/// stochastically. The loss is weighted by the tokens of the whole step, so the sum is the
/// gradient of one big batch up to the order of sums. Needs `gradients_complete`.
Pass accumulate_pass(std::int64_t seed);

}  // namespace snug
