#pragma once
// Launches on a host: the threads of a block are threads, blocks run one after the other. Takes the
// place of src/backend/cuda/present/grid.cuh.

#include <cmath>
#include <cstdint>
#include <functional>
#include <type_traits>

// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming)
#define __global__
#define __device__
#define __grid_constant__
#define __launch_bounds__(...)
#define __shared__ static

struct alignas(16) uint4 {
  std::uint32_t x, y, z, w;
};
inline uint4 make_uint4(std::uint32_t x, std::uint32_t y, std::uint32_t z, std::uint32_t w) {
  return {x, y, z, w};
}

struct Dimensions {
  unsigned x = 0, y = 0;
};
extern Dimensions threadIdx, blockIdx, gridDim;

void __syncthreads();
int atomicMin(int* address, int value);
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)

namespace snug::cuda {

/// Blocks of a launch.
struct Grid {
  unsigned x = 1;
  unsigned y = 1;
};

namespace emulation {

/// Calls `body` in every thread of every block; each block has `memory` bytes that are not zeros.
void run(Grid grid, int threads, std::int64_t memory, const std::function<void()>& body);
/// The memory of the block.
std::byte* memory_of_block();

/// Leaves `value` for the other lanes of the warp and waits for theirs; `take` reads them before
/// any lane goes on.
void exchange(const void* value, const std::function<void(const void* const (&values)[32])>& take);

}  // namespace emulation

template <class... Parameters>
void start(void*, void (*kernel)(Parameters...), Grid grid, int threads, std::int64_t memory,
           const std::type_identity_t<Parameters>&... arguments) {
  emulation::run(grid, threads, memory, [&] { kernel(arguments...); });
}

template <class T>
T* block_memory() {
  return reinterpret_cast<T*>(emulation::memory_of_block());
}

}  // namespace snug::cuda

/// The value of the lane whose number differs by the bits of `lanes`.
template <class T>
T __shfl_xor_sync(unsigned, T value, int lanes) {  // NOLINT(bugprone-reserved-identifier)
  T other{};
  snug::cuda::emulation::exchange(&value, [&](const void* const(&values)[32]) {
    other = *static_cast<const T*>(values[(threadIdx.x % 32) ^ static_cast<unsigned>(lanes)]);
  });
  return other;
}
