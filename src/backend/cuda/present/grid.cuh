#pragma once
// Launches and the memory of a block. This header and mma.cuh have all that kernels take from a
// card beyond the words of CUDA's language; tests/emulation has them for a host.

#include <cuda_runtime_api.h>

#include <cstdint>
#include <type_traits>

#include "backend/cuda/present/queue.h"

namespace snug::cuda {

/// Blocks of a launch.
struct Grid {
  unsigned x = 1;
  unsigned y = 1;
};

/// Queues a kernel. `memory` bytes are a block's beside what the kernel declares.
template <class... Parameters>
void start(void* queue, void (*kernel)(Parameters...), Grid grid, int threads, std::int64_t memory,
           const std::type_identity_t<Parameters>&... arguments) {
  if (memory > 0) {
    check_call(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(memory)),
               "cudaFuncSetAttribute");
  }
  kernel<<<dim3(grid.x, grid.y), static_cast<unsigned>(threads), static_cast<std::size_t>(memory),
           stream_of(queue)>>>(arguments...);
  check_launch();
}

/// The memory that start() gave a block.
template <class T>
__device__ T* block_memory() {
  extern __shared__ uint4 memory[];
  return reinterpret_cast<T*>(memory);
}

}  // namespace snug::cuda
