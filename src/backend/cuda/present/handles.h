#pragma once
// Owners of what the run time hands out.

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>

namespace snug::cuda {

/// Gives back by a function of the run time.
template <auto kGiveBack>
struct GiveBack {
  template <class T>
  void operator()(T* handle) const noexcept {
    kGiveBack(handle);
  }
};

using Stream = std::unique_ptr<CUstream_st, GiveBack<cudaStreamDestroy>>;
using Event = std::unique_ptr<CUevent_st, GiveBack<cudaEventDestroy>>;
using Graph = std::unique_ptr<CUgraph_st, GiveBack<cudaGraphDestroy>>;
using GraphExec = std::unique_ptr<CUgraphExec_st, GiveBack<cudaGraphExecDestroy>>;
using CardBytes = std::unique_ptr<std::byte, GiveBack<cudaFree>>;
using PinnedBytes = std::unique_ptr<std::byte, GiveBack<cudaFreeHost>>;

}  // namespace snug::cuda
