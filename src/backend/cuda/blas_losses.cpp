// Head and loss with products on cuBLASLt.

#include <algorithm>

#include "backend/cuda/blas_products.h"
#include "backend/cuda/cuda_kernels.h"
#include "backend/cuda/head_loss.h"

namespace snug::cuda {
namespace {

std::optional<std::string> refuses(const KernelQuery& query) {
  const DType type = query.inputs[0].type.dtype;
  if (!is_float(type) || type == DType::f64) return std::string(name_of(type));
  for (const std::size_t i : {std::size_t{1}, std::size_t{3}, std::size_t{4}}) {
    if (i > 1 && !is_adapted(query.op)) break;
    if (query.inputs[i].type.dtype != type) return "factors of two types";
  }
  for (std::size_t i = 1; i < query.outputs.size(); ++i) {
    const DType result = query.outputs[i].type.dtype;
    if (query.outputs[i].present && result != type && result != DType::f32) {
      return "a gradient of another type";
    }
  }
  return refuses_gaps(query);
}

std::int64_t grant(const KernelQuery& query) {
  const TensorType& x = query.inputs[0].type;
  const std::int64_t classes = query.inputs[1].type.shape[0];
  const bool adapted = is_adapted(query.op);
  const std::size_t last = adapted ? 3 : 2;
  const bool rounded = query.outputs.size() > last && query.outputs[last].present &&
                       query.outputs[last].type.dtype == DType::bf16;
  const std::int64_t width = adapted ? query.inputs[3].type.shape[1] : x.shape[1];
  const std::int64_t given = query.attributes.integer_or("chunk_columns", 0);
  const std::int64_t tile = given <= 0 ? classes : std::min(given, classes);
  return head_loss_bytes(query, product_bytes(query.target.card, tile, width, rounded));
}

template <Op kOp>
void run(const KernelCall& call) {
  run_head_loss(call, kOp, [&](const Product& product, std::span<std::byte> scratch) {
    run_product(call.queue, product, scratch);
  });
}

constexpr Kernel blas(std::string_view name, Op op, void (*run)(const KernelCall&)) {
  return {.name = name,
          .op = op,
          .refuses = refuses,
          .grant = grant,
          .run = run,
          .row_invariant = false};
}

constexpr Kernel kKernels[] = {
    blas("cublaslt_head_loss", Op::head_loss, run<Op::head_loss>),
    blas("cublaslt_head_loss_grad", Op::head_loss_grad, run<Op::head_loss_grad>),
    blas("cublaslt_adapted_head_loss", Op::adapted_head_loss, run<Op::adapted_head_loss>),
    blas("cublaslt_adapted_head_loss_grad", Op::adapted_head_loss_grad,
         run<Op::adapted_head_loss_grad>),
};

}  // namespace

std::span<const Kernel> blas_losses() { return kKernels; }

}  // namespace snug::cuda
