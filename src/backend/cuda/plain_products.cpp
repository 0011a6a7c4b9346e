// Products, packed matrices and embeddings, an element a thread.

#include "backend/cuda/bodies_elements.h"
#include "backend/cuda/cuda_kernels.h"
#include "backend/cuda/operands.h"

namespace snug::cuda {
namespace {

void run(const KernelCall& call, Product product, std::int64_t batches = 1) {
  each(call.queue, batches * product.rows * product.columns, product);
}

void matmul(const KernelCall& call) {
  const Shape& a = shape_in(call, 0);
  const Shape& y = shape_out(call, 0);
  const bool turn_a = call.attributes.integer_or("transpose_a", 0) != 0;
  const bool turn_b = call.attributes.integer_or("transpose_b", 0) != 0;
  const std::int64_t inner = a[turn_a ? -2 : -1];
  const std::int64_t rows = y[-2];
  const std::int64_t columns = y[-1];
  Factor x = turn_a ? columns_of(in(call, 0), rows) : rows_of(in(call, 0), inner);
  Factor w = turn_b ? rows_of(in(call, 1), inner) : columns_of(in(call, 1), columns);
  x.batch = rows * inner;
  w.batch = inner * columns;
  run(call, {x, w, {}, {out(call, 0), {}, {}}, rows, columns, inner},
      y.elements() / (rows * columns));
}

void linear(const KernelCall& call) { run(call, linear_product(call)); }
void linear_dx(const KernelCall& call) { run(call, linear_dx_product(call)); }
void linear_dw(const KernelCall& call) { run(call, linear_dw_product(call)); }

void dequantize(const KernelCall& call) {
  const View y = out(call, 0);
  const std::int64_t columns = shape_out(call, 0)[1];
  each(call.queue, y.size, DequantizeTile{packed(call, 0, columns), y, columns, 0, 0});
}

void packed_linear(const KernelCall& call) {
  const std::int64_t inner = shape_in(call, 0)[1];
  const View y = out(call, 0);
  each(call.queue, y.size,
       PackedProduct{in(call, 0), packed(call, 1, inner), in(call, 5), sum_of(call, 0, 6),
                     call.attributes.integer("rows"), inner, false});
}

void packed_linear_dx(const KernelCall& call) {
  const std::int64_t columns = call.attributes.integer("columns");
  const View dx = out(call, 0);
  each(call.queue, dx.size,
       PackedProduct{in(call, 0),
                     packed(call, 1, columns),
                     {},
                     sum_of(call, 0, 5),
                     columns,
                     shape_in(call, 0)[1],
                     true});
}

void embedding(const KernelCall& call) {
  const Shape& table = shape_in(call, 0);
  const View y = out(call, 0);
  each(call.queue, y.size,
       Embedding{in(call, 0), y, pointer<const std::int32_t>(call, 1), table[1], table[0]});
}

std::int64_t embedding_dw_grant(const KernelQuery& query) {
  const std::int64_t tokens = query.inputs[0].type.shape[0];
  return 2 * Pieces::bytes(tokens, sizeof(std::int32_t));
}

/// With an accumulator, rows that no token names stay as they are.
void embedding_dw(const KernelCall& call) {
  const std::int64_t tokens = shape_in(call, 0)[0];
  const auto* const ids = pointer<const std::int32_t>(call, 1);
  Pieces pieces(call.scratch);
  auto* const first = pieces.take<std::int32_t>(tokens);
  auto* const next = pieces.take<std::int32_t>(tokens);
  const View dw = out(call, 0);
  if (!in(call, 2).present()) each(call.queue, dw.size, Fill{dw, 0});
  each(call.queue, tokens, EmbeddingChains{ids, first, next, tokens});
  each(call.queue, in(call, 0).size,
       EmbeddingGradient{in(call, 0), ids, first, next, sum_of(call, 0, 2), shape_out(call, 0)[1],
                         shape_out(call, 0)[0]});
}

constexpr Kernel kKernels[] = {
    {.name = "cuda_plain_matmul", .op = Op::matmul, .refuses = refuses_double, .run = matmul},
    {.name = "cuda_plain_linear", .op = Op::linear, .refuses = refuses_double, .run = linear},
    {.name = "cuda_plain_linear_dx",
     .op = Op::linear_dx,
     .refuses = refuses_double,
     .run = linear_dx},
    {.name = "cuda_plain_linear_dw",
     .op = Op::linear_dw,
     .refuses = refuses_double,
     .run = linear_dw},
    {.name = "cuda_plain_dequantize",
     .op = Op::dequantize,
     .refuses = refuses_double,
     .run = dequantize},
    {.name = "cuda_plain_packed_linear",
     .op = Op::packed_linear,
     .refuses = refuses_double,
     .run = packed_linear},
    {.name = "cuda_plain_packed_linear_dx",
     .op = Op::packed_linear_dx,
     .refuses = refuses_double,
     .run = packed_linear_dx},
    {.name = "cuda_plain_embedding",
     .op = Op::embedding,
     .refuses = refuses_double,
     .run = embedding},
    {.name = "cuda_plain_embedding_dw",
     .op = Op::embedding_dw,
     .refuses = refuses_double,
     .grant = embedding_dw_grant,
     .run = embedding_dw},
};

}  // namespace

std::span<const Kernel> plain_products() { return kKernels; }

}  // namespace snug::cuda
