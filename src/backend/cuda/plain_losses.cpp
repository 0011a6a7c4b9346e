// Head and loss with products an element a thread.

#include "backend/cuda/cuda_kernels.h"
#include "backend/cuda/head_loss.h"

namespace snug::cuda {
namespace {

std::int64_t grant(const KernelQuery& query) { return head_loss_bytes(query, 0); }

template <Op kOp>
void run(const KernelCall& call) {
  run_head_loss(call, kOp, [&](const Product& product, std::span<std::byte>) {
    each(call.queue, product.rows * product.columns, product);
  });
}

constexpr Kernel plain(std::string_view name, Op op, void (*run)(const KernelCall&)) {
  return {.name = name, .op = op, .refuses = refuses_gaps, .grant = grant, .run = run};
}

constexpr Kernel kKernels[] = {
    plain("cuda_plain_head_loss", Op::head_loss, run<Op::head_loss>),
    plain("cuda_plain_head_loss_grad", Op::head_loss_grad, run<Op::head_loss_grad>),
    plain("cuda_plain_adapted_head_loss", Op::adapted_head_loss, run<Op::adapted_head_loss>),
    plain("cuda_plain_adapted_head_loss_grad", Op::adapted_head_loss_grad,
          run<Op::adapted_head_loss_grad>),
};

}  // namespace

std::span<const Kernel> plain_losses() { return kKernels; }

}  // namespace snug::cuda
