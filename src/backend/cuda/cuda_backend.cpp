#include "backend/cuda/cuda_backend.h"

#include "backend/cuda/cuda_kernels.h"

namespace snug {

CudaBackend::CudaBackend(Kernels kernels) {
  const auto add = [&](std::span<const Kernel> family) {
    for (const Kernel& kernel : family) {
      by_op_[static_cast<std::size_t>(kernel.op)].push_back(&kernel);
    }
  };
  if (kernels == Kernels::all) {
    for (const auto family : {cuda::blas_products(), cuda::blas_packed(), cuda::blas_losses(),
                              cuda::flash_attention(), cuda::eights()}) {
      add(family);
    }
  }
  for (const auto family : {cuda::plain_elements(), cuda::plain_products(), cuda::plain_rows(),
                            cuda::plain_attention(), cuda::plain_losses(), cuda::plain_updates()}) {
    add(family);
  }
}

std::span<const Kernel* const> CudaBackend::kernels(Op op) const {
  return by_op_[static_cast<std::size_t>(op)];
}

}  // namespace snug
