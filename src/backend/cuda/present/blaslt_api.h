#pragma once
// The part of cuBLASLt that products need, found in the library at run time: a build needs neither
// its headers nor its library. Names and numbers are cublasLt.h's; they have not changed since
// CUDA 11.

#include <cuda_runtime_api.h>
#include <library_types.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace snug::cuda::lt {

using Status = int;  ///< 0: success
using Handle = void*;
using MatmulDesc = void*;
using MatrixLayout = void*;
using Preference = void*;

struct Algorithm {
  std::uint64_t data[8];
};
struct HeuristicResult {
  Algorithm algorithm;
  std::size_t workspace;
  Status state;
  float waves;
  int reserved[4];
};

inline constexpr int kCompute32F = 68;  // CUBLAS_COMPUTE_32F
inline constexpr int kOpN = 0;
inline constexpr int kOpT = 1;
inline constexpr int kDescTransA = 3;
inline constexpr int kDescTransB = 4;
inline constexpr int kDescEpilogue = 7;
inline constexpr int kDescBiasPointer = 8;
inline constexpr int kEpilogueBias = 4;
inline constexpr int kPreferenceMaxWorkspace = 1;
inline constexpr int kPreferenceReductionMask = 3;
inline constexpr int kPreferenceAlignmentA = 5;  // B, C and D follow
/// Partial sums of split products in fp32, in the workspace: one order, unlike atomic adds.
inline constexpr std::uint32_t kReductionComputeType = 2;

/// The library's functions, by their names behind `cublasLt`.
struct Api {
  Status (*create)(Handle*);
  Status (*destroy)(Handle);
  std::size_t (*version)();
  Status (*desc_create)(MatmulDesc*, int compute, cudaDataType_t scale);
  Status (*desc_set)(MatmulDesc, int attribute, const void* value, std::size_t size);
  Status (*desc_destroy)(MatmulDesc);
  Status (*layout_create)(MatrixLayout*, cudaDataType_t, std::uint64_t rows, std::uint64_t columns,
                          std::int64_t leading);
  Status (*layout_destroy)(MatrixLayout);
  Status (*preference_create)(Preference*);
  Status (*preference_set)(Preference, int attribute, const void* value, std::size_t size);
  Status (*preference_destroy)(Preference);
  Status (*heuristic)(Handle, MatmulDesc, MatrixLayout a, MatrixLayout b, MatrixLayout c,
                      MatrixLayout d, Preference, int wanted, HeuristicResult*, int* found);
  Status (*matmul)(Handle, MatmulDesc, const void* alpha, const void* a, MatrixLayout,
                   const void* b, MatrixLayout, const void* beta, const void* c, MatrixLayout,
                   void* d, MatrixLayout, const Algorithm*, void* workspace, std::size_t,
                   cudaStream_t);
};

/// Opens the library once for as long as somebody holds it. UserError when this machine has none.
std::shared_ptr<const Api> open_api();

}  // namespace snug::cuda::lt
