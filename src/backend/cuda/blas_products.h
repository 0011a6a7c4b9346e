#pragma once
// What the kernels on Blas share.

#include "backend/cuda/blas.h"
#include "backend/cuda/operands.h"

namespace snug::cuda {

/// Bytes that run_product may use for fp32 sums before they are rounded at random.
inline constexpr std::int64_t kSlabBytes = std::int64_t{32} << 20;

/// Scratch of run_product for products of up to `columns` columns; `rounded`: c may be rounded at
/// random.
std::int64_t product_bytes(const Card& card, std::int64_t rows, std::int64_t columns, bool rounded);

/// A product of any c: what must be rounded at random is summed in fp32 first, some rows at a time.
void run_product(void* queue, const Product& product, std::span<std::byte> scratch);

/// A refusal unless operands i and j have one type that cuBLASLt multiplies into the first
/// result's.
std::optional<std::string> refuses_factors(const KernelQuery& query, std::size_t i, std::size_t j);

}  // namespace snug::cuda
