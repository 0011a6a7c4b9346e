#pragma once
// What KernelCall::queue points to on a card, and how calls of the run time are checked. Light
// enough for .cu files.

#include <cuda_runtime_api.h>

namespace snug::cuda {

class Blas;

struct Queue {
  cudaStream_t stream = nullptr;
  Blas* library = nullptr;  ///< of the compute lane; the others have none
};

inline cudaStream_t stream_of(void* queue) { return static_cast<Queue*>(queue)->stream; }

/// Throws DeviceError with the call's name and the driver's text unless `status` is success.
void check_call(cudaError_t status, const char* call);
/// The same for the launch just made.
void check_launch();

}  // namespace snug::cuda
