#pragma once
// Head and cross-entropy by chunks of rows, each in tiles of classes: the steps, whatever computes
// their products.

#include "backend/cuda/operands.h"
#include "core/function_ref.h"

namespace snug::cuda {

/// What computes a product, with the scratch that is its own.
using RunProduct = FunctionRef<void(const Product&, std::span<std::byte> scratch)>;

/// Whether the head has an adapter.
inline bool is_adapted(Op op) {
  return op == Op::adapted_head_loss || op == Op::adapted_head_loss_grad;
}

/// Bytes of scratch of head_loss and the like, `products` for the products included.
std::int64_t head_loss_bytes(const KernelQuery& query, std::int64_t products);

/// Runs head_loss, head_loss_grad, adapted_head_loss or adapted_head_loss_grad. Logits are fp32;
/// their gradient is stored in x's type. A chunk of rows adds to a bf16 weight gradient with random
/// bits of its own, where the call has a draw number.
void run_head_loss(const KernelCall& call, Op op, RunProduct product);

}  // namespace snug::cuda
