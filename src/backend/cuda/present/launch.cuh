#pragma once
// Bodies of kernels as launches. Each .cu file instantiates some of them.

#include "backend/cuda/blocks.h"
#include "backend/cuda/portable.h"
#include "backend/cuda/present/grid.cuh"

namespace snug::cuda {

inline constexpr int kThreads = kPlainBlock.threads;
/// Blocks of a multiprocessor at least: what holds ptxas to the declared registers.
inline constexpr int kBlocks = kRegisters / (kThreads * kPlainBlock.registers);
inline constexpr int kWarp = 32;
/// Blocks of a grid whose threads go on with other elements: enough for every card.
inline constexpr std::int64_t kMostBlocks = 1 << 14;
/// The same for bodies with start() or Tables, whose threads should do much after them.
inline constexpr std::int64_t kFewBlocks = 1 << 11;

/// The threads of a block at work on one row. `area` has a double for each warp.
class BlockTeam {
 public:
  __device__ explicit BlockTeam(double* area) : area_(area) {}
  __device__ std::int64_t rank() const { return threadIdx.x; }
  __device__ std::int64_t size() const { return kThreads; }
  __device__ void sync() const { __syncthreads(); }

  template <class T>
  __device__ T sum(T value) {
    return reduce(value, [](T a, T b) { return a + b; });
  }
  template <class T>
  __device__ T max(T value) {
    return reduce(value, [](T a, T b) { return a > b ? a : b; });
  }

 private:
  /// A butterfly in each warp, then over the warps' results: every thread gets the same bits.
  template <class T, class Combine>
  __device__ T reduce(T value, Combine combine) {
    auto* const parts = reinterpret_cast<T*>(area_);
    for (int step = kWarp / 2; step > 0; step /= 2) {
      value = combine(value, __shfl_xor_sync(0xffffffffU, value, step));
    }
    if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = value;
    __syncthreads();
    T result = parts[0];
    for (int warp = 1; warp < kThreads / kWarp; ++warp) result = combine(result, parts[warp]);
    __syncthreads();  // the parts have been read before the next use writes them
    return result;
  }

  double* area_;
};

template <class Body>
__global__ void __launch_bounds__(kThreads, kBlocks)
    each_kernel(const __grid_constant__ Body body, std::int64_t count) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if constexpr (HasTables<Body>) {
    __shared__ typename Body::Tables tables;
    body.fill(tables, static_cast<int>(threadIdx.x), kThreads);
    __syncthreads();
    for (; i < count; i += step) body(tables, i);
  } else if constexpr (requires { body.start(); }) {
    const auto start = body.start();
    for (; i < count; i += step) body(start, i);
  } else {
    for (; i < count; i += step) body(i);
  }
}

template <class Body>
__global__ void __launch_bounds__(kThreads, kBlocks)
    teams_kernel(const __grid_constant__ Body body, std::int64_t count) {
  __shared__ double area[kThreads / kWarp];
  BlockTeam team(area);
  if constexpr (HasTables<Body>) {
    __shared__ typename Body::Tables tables;
    body.fill(tables, static_cast<int>(threadIdx.x), kThreads);
    __syncthreads();
    for (std::int64_t i = blockIdx.x; i < count; i += gridDim.x) body(team, tables, i);
  } else {
    for (std::int64_t i = blockIdx.x; i < count; i += gridDim.x) body(team, i);
  }
}

inline unsigned blocks_for(std::int64_t wanted, std::int64_t most) {
  return static_cast<unsigned>(wanted < most ? wanted : most);
}

template <class Body>
void each(void* queue, std::int64_t count, const Body& body) {
  static_assert(sizeof(Body) + sizeof(count) <= 4096, "parameters of a kernel");
  if (count <= 0) return;
  constexpr bool kPrepares = HasTables<Body> || requires { body.start(); };
  constexpr std::int64_t kMost = kPrepares ? kFewBlocks : kMostBlocks;
  const unsigned blocks = blocks_for((count + kThreads - 1) / kThreads, kMost);
  start(queue, each_kernel<Body>, {.x = blocks}, kThreads, 0, body, count);
}

template <class Body>
void teams(void* queue, std::int64_t count, const Body& body) {
  static_assert(sizeof(Body) + sizeof(count) <= 4096, "parameters of a kernel");
  if (count <= 0) return;
  constexpr std::int64_t kMost = HasTables<Body> ? kFewBlocks : kMostBlocks;
  start(queue, teams_kernel<Body>, {.x = blocks_for(count, kMost)}, kThreads, 0, body, count);
}

}  // namespace snug::cuda

#define SNUG_EACH(Body) template void each<Body>(void*, std::int64_t, const Body&);
#define SNUG_TEAMS(Body) template void teams<Body>(void*, std::int64_t, const Body&);
