#pragma once
// Reverse-mode differentiation: a loss graph becomes a graph of the loss and its gradients.

#include <cstdint>

#include "ir/graph.h"
#include "passes/pass.h"

namespace snug {

struct AutodiffOptions {
  DType gradient_dtype = DType::bf16;  ///< storage of parameters' gradients
  std::int64_t seed = 0;               ///< of the stochastic rounding of accumulated gradients
};

/// Appends the backward nodes of scalar `loss`, in the reverse order of the forward nodes, and only
/// those that a trainable parameter's gradient needs. `seed` is the value d(objective)/d(loss), of
/// the loss's type. The gradient of parameter P is output `P.grad`, of role gradient and
/// `gradient_dtype`; contributions of several uses add up in place. A weight's gradient comes just
/// before the gradient of its layer's input, which may then take that input's place. The loss
/// becomes an output under its own name. What nothing reads any more is removed.
/// Gives `differentiated` and `gradients_complete`. InternalError where an op on the way has no
/// gradient rule, or a trainable parameter does not reach the loss.
Graph differentiate(Graph graph, ValueId loss, ValueId seed, const AutodiffOptions& options);

/// differentiate() as a pass over the model's loss graph: the loss is `metric/loss`, the objective
/// `scalar/loss_weight` (1 / labels of the step) times it. Needs `typed`.
Pass autodiff_pass(DType gradient_dtype, std::int64_t seed);

}  // namespace snug
