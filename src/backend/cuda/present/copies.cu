// Copies behind what a queue holds, and whether this build has code for the card.

#include "backend/cuda/bodies_elements.h"
#include "backend/cuda/present/launch.cuh"

namespace snug::cuda {

void copy_bytes(void* queue, void* to, const void* from, std::int64_t bytes) {
  check_call(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDefault,
                             stream_of(queue)),
             "cudaMemcpyAsync");
}

void copy_rows(void* queue, void* to, std::int64_t to_stride, const void* from,
               std::int64_t from_stride, std::int64_t bytes, std::int64_t rows) {
  if (bytes == 0 || rows == 0) return;
  check_call(
      cudaMemcpy2DAsync(to, static_cast<std::size_t>(to_stride), from,
                        static_cast<std::size_t>(from_stride), static_cast<std::size_t>(bytes),
                        static_cast<std::size_t>(rows), cudaMemcpyDefault, stream_of(queue)),
      "cudaMemcpy2DAsync");
}

cudaError_t find_code() {
  cudaFuncAttributes attributes{};
  const cudaError_t status =
      cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(each_kernel<Gate>));
  cudaGetLastError();  // a missing image is an answer here
  return status;
}

}  // namespace snug::cuda
