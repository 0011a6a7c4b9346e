// Products on cuBLASLt: linear layers and their gradients.

#include "backend/cuda/blas_products.h"

#include <algorithm>

#include "backend/cuda/cuda_kernels.h"
#include "backend/cuda/eights.h"

namespace snug::cuda {

std::int64_t blas_workspace(const Card& card) {
  constexpr std::int64_t kMebibyte = std::int64_t{1} << 20;
  return card.compute == 90 ? 32 * kMebibyte : 4 * kMebibyte;
}

namespace {

/// Rows of c whose fp32 sums fit into a slab.
std::int64_t slab_rows(std::int64_t rows, std::int64_t columns) {
  const std::int64_t row = columns * static_cast<std::int64_t>(sizeof(float));
  return std::clamp<std::int64_t>(kSlabBytes / row, 1, rows);
}

bool rounds_at_random(const Sum& c) {
  return c.rounding.draw != nullptr && c.out.type == DType::bf16;
}

/// What is left of a factor from row `first` on.
Factor from_row(Factor factor, std::int64_t first) {
  const std::int64_t elements = first * factor.outer;
  // With gaps the rows of the view are the factor's own.
  factor.of.data += factor.of.place(elements) * size_of(factor.of.type);
  factor.of.size -= elements;
  return factor;
}

}  // namespace

std::int64_t product_bytes(const Card& card, std::int64_t rows, std::int64_t columns,
                           bool rounded) {
  const std::int64_t workspace = Pieces::bytes(blas_workspace(card), 1);
  if (!rounded) return workspace;
  return workspace + Pieces::bytes(slab_rows(rows, columns) * columns, sizeof(float));
}

void run_product(void* queue, const Product& product, std::span<std::byte> scratch) {
  Blas& blas = library_of(queue);
  if (!rounds_at_random(product.c)) {
    blas.run(queue, product, scratch);
    return;
  }
  const std::int64_t slab = slab_rows(product.rows, product.columns);
  const auto bytes = static_cast<std::size_t>(Pieces::bytes(slab * product.columns, sizeof(float)));
  auto* const sums = reinterpret_cast<float*>(scratch.data());
  for (std::int64_t first = 0; first < product.rows; first += slab) {
    Product part = product;
    part.rows = std::min(slab, product.rows - first);
    part.x = from_row(product.x, first);
    const std::int64_t size = part.rows * part.columns;
    part.c = {.out = floats(sums, size), .acc = {}, .rounding = {}};
    blas.run(queue, part, scratch.subspan(bytes));
    Sum to = product.c;
    to.out = part_of(product.c.out, first * product.columns, size);
    to.acc = part_of(product.c.acc, first * product.columns, size);
    to.first += first * product.columns;
    store_sums(queue, size, {sums, to});
  }
}

std::optional<std::string> refuses_factors(const KernelQuery& query, std::size_t i, std::size_t j) {
  const DType type = query.inputs[i].type.dtype;
  if (!is_float(type) || type == DType::f64) return std::string(name_of(type));
  if (query.inputs[j].type.dtype != type) return "factors of two types";
  const DType result = query.outputs[0].type.dtype;
  if (result != type && result != DType::f32) {
    return fmt::format("{} from {}", name_of(result), name_of(type));
  }
  return std::nullopt;
}

namespace {

void run(const KernelCall& call, const Product& product) {
  run_product(call.queue, product, call.scratch);
}

std::optional<std::string> linear_refuses(const KernelQuery& query) {
  const bool biased = query.inputs.size() > 2 && query.inputs[2].present;
  if (biased && query.inputs[2].type.dtype != query.outputs[0].type.dtype) {
    return "a bias of another type than the result";
  }
  return refuses_factors(query, 0, 1);
}

std::optional<std::string> refuses(const KernelQuery& query) {
  return refuses_factors(query, 0, 1);
}

std::int64_t grant(const KernelQuery& query) {
  return product_bytes(query.target.card, query.outputs[0].type.shape[0],
                       query.outputs[0].type.shape[1], false);
}

std::int64_t dw_grant(const KernelQuery& query) {
  const bool drawn = query.inputs.size() > 3 && query.inputs[3].present &&
                     query.outputs[0].type.dtype == DType::bf16;
  return product_bytes(query.target.card, query.outputs[0].type.shape[0],
                       query.outputs[0].type.shape[1], drawn);
}

void linear(const KernelCall& call) { run(call, linear_product(call)); }
void linear_dx(const KernelCall& call) { run(call, linear_dx_product(call)); }
void linear_dw(const KernelCall& call) { run(call, linear_dw_product(call)); }

constexpr Kernel kKernels[] = {
    {.name = "cublaslt_linear",
     .op = Op::linear,
     .refuses = linear_refuses,
     .grant = grant,
     .run = linear,
     .row_invariant = false},
    {.name = "cublaslt_linear_dx",
     .op = Op::linear_dx,
     .refuses = refuses,
     .grant = grant,
     .run = linear_dx,
     .row_invariant = false},
    {.name = "cublaslt_linear_dw",
     .op = Op::linear_dw,
     .refuses = refuses,
     .grant = dw_grant,
     .run = linear_dw,
     .row_invariant = false},
};

}  // namespace

std::span<const Kernel> blas_products() { return kKernels; }

}  // namespace snug::cuda
