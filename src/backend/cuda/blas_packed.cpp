// Products with packed matrices: some rows or columns at a time are unpacked into scratch, then
// cuBLASLt multiplies. Each element of the result is one sum, rounded once.

#include <algorithm>

#include "backend/cuda/blas_products.h"
#include "backend/cuda/cuda_kernels.h"
#include "backend/cuda/eights.h"

namespace snug::cuda {
namespace {

/// Columns of the result whose part of the matrix fits into a slab.
std::int64_t slab_columns(std::int64_t columns, std::int64_t inner, DType type) {
  constexpr std::int64_t kQuantum = 64;
  const std::int64_t most = kSlabBytes / (inner * size_of(type)) / kQuantum * kQuantum;
  return std::min(columns, std::max(kQuantum, most));
}

std::int64_t slab_bytes(std::int64_t columns, std::int64_t inner, DType type) {
  return Pieces::bytes(slab_columns(columns, inner, type) * inner,
                       static_cast<std::size_t>(size_of(type)));
}

std::optional<std::string> refuses(const KernelQuery& query) {
  return refuses_factors(query, 0, 0);
}

std::optional<std::string> linear_refuses(const KernelQuery& query) {
  const bool biased = query.inputs.size() > 5 && query.inputs[5].present;
  if (biased && query.inputs[5].type.dtype != query.outputs[0].type.dtype) {
    return "a bias of another type than the result";
  }
  return refuses(query);
}

std::int64_t grant(const KernelQuery& query) {
  const TensorType& x = query.inputs[0].type;
  const Shape& y = query.outputs[0].type.shape;
  return slab_bytes(y[1], x.shape[1], x.dtype) +
         product_bytes(query.target.card, y[0], y[1], false);
}

/// Columns first.. of a matrix.
View columns_from(View whole, std::int64_t rows, std::int64_t first, std::int64_t count) {
  if (!whole.present()) return {};
  whole.gap += whole.row - count;
  whole.row = count;
  whole.size = rows * count;
  whole.data += first * size_of(whole.type);
  return whole;
}

/// y = x w^T (turned: x w), `bias` and acc added.
void multiply(const KernelCall& call, const Packed& w, const View& bias, const Sum& c,
              bool turned) {
  const View x = in(call, 0);
  const std::int64_t rows = shape_in(call, 0)[0];
  const std::int64_t inner = shape_in(call, 0)[1];
  const std::int64_t columns = shape_out(call, 0)[1];
  const std::int64_t slab = slab_columns(columns, inner, x.type);
  const auto used = static_cast<std::size_t>(slab_bytes(columns, inner, x.type));
  for (std::int64_t first = 0; first < columns; first += slab) {
    const std::int64_t count = std::min(slab, columns - first);
    const View part{.data = call.scratch.data(), .type = x.type, .size = count * inner};
    dequantize_tile(call.queue, turned ? DequantizeTile{w, part, count, 0, first}
                                       : DequantizeTile{w, part, inner, first, 0});
    const Sum to{.out = columns_from(c.out, rows, first, count),
                 .acc = columns_from(c.acc, rows, first, count),
                 .rounding = {}};
    const Factor w_part = turned ? columns_of(part, count) : rows_of(part, inner);
    library_of(call.queue)
        .run(call.queue,
             {rows_of(x, inner), w_part, part_of(bias, first, count), to, rows, count, inner},
             call.scratch.subspan(used));
  }
}

void packed_linear(const KernelCall& call) {
  multiply(call, packed(call, 1, shape_in(call, 0)[1]), in(call, 5), sum_of(call, 0, 6), false);
}

void packed_linear_dx(const KernelCall& call) {
  multiply(call, packed(call, 1, shape_out(call, 0)[1]), {}, sum_of(call, 0, 5), true);
}

constexpr Kernel kKernels[] = {
    {.name = "cublaslt_packed_linear",
     .op = Op::packed_linear,
     .refuses = linear_refuses,
     .grant = grant,
     .run = packed_linear,
     .row_invariant = false},
    {.name = "cublaslt_packed_linear_dx",
     .op = Op::packed_linear_dx,
     .refuses = refuses,
     .grant = grant,
     .run = packed_linear_dx,
     .row_invariant = false},
};

}  // namespace

std::span<const Kernel> blas_packed() { return kKernels; }

}  // namespace snug::cuda
