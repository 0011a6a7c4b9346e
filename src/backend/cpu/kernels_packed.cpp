// Products with packed weight matrices, dequantised while the product packs its panels.

#include <algorithm>

#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/unpack.h"
#include "backend/packed_operands.h"

namespace snug::cpu {
namespace {

constexpr std::size_t kNoBias = 6;                 // beyond the last operand of packed_linear_dx
constexpr std::int64_t kUnpackedAtOnce = 1 << 15;  // elements of a task

GemmMatrix matrix(const Operand& operand) {
  return {operand.data, operand.layout.type.dtype, matrix_of(operand.layout).stride, true};
}

/// `bias` and `acc` are operands' indices; no bias where it is not given.
GemmOutput output(const KernelCall& call, std::size_t bias, std::size_t acc) {
  const Operand& operand = call.outputs[0];
  GemmOutput out;
  out.data = operand.data;
  out.dtype = operand.layout.type.dtype;
  out.stride = matrix_of(operand.layout).stride;
  out.accumulate = given(call.inputs, acc);
  if (given(call.inputs, bias)) {
    out.bias = call.inputs[bias].data;
    out.bias_dtype = call.inputs[bias].layout.type.dtype;
  }
  return out;
}

/// x [m, k] by a packed matrix of n outputs.
std::int64_t grant(const KernelQuery& query) {
  const DType type = query.inputs[0].type.dtype;
  const GemmShape shape{.m = matrix_of(query.inputs[0]).rows,
                        .n = query.outputs[0].type.shape[1],
                        .k = matrix_of(query.inputs[0]).columns,
                        .a = type,
                        .b = type,
                        .b_packed = true};
  return gemm_scratch(shape, query.target.isa, query.target.threads);
}

// packed_linear: (x [T,K], codes, scales, nested?, offset?, bias?, acc?) -> [T,N].
void linear_run(const KernelCall& call) {
  const Matrix x = matrix_of(call.inputs[0].layout);
  const std::int64_t rows = call.attributes.integer("rows");
  const PackedMatrix packed = packed_matrix(call, 1, rows, x.columns);
  const GemmMatrix w{nullptr, call.inputs[0].layout.type.dtype, 0, true, &packed};
  gemm(x.rows, rows, x.columns, matrix(call.inputs[0]), w, output(call, 5, 6), isa_of(call),
       call.scratch, call.pool);
}

// packed_linear_dx: (dy [T,N], codes, scales, nested?, offset?, acc?) -> [T,K].
void dx_run(const KernelCall& call) {
  const Matrix dy = matrix_of(call.inputs[0].layout);
  const std::int64_t columns = call.attributes.integer("columns");
  const PackedMatrix packed = packed_matrix(call, 1, dy.columns, columns);
  const GemmMatrix w{nullptr, call.inputs[0].layout.type.dtype, 0, false, &packed};
  gemm(dy.rows, columns, dy.columns, matrix(call.inputs[0]), w, output(call, kNoBias, 5),
       isa_of(call), call.scratch, call.pool);
}

// dequantize: (codes, scales, nested?, offset?) -> [N,K].
void dequantize_run(const KernelCall& call) {
  const Operand& out = call.outputs[0];
  const DType type = out.layout.type.dtype;
  const Matrix y = matrix_of(out.layout);
  const PackedMatrix packed = packed_matrix(call, 0, y.rows, y.columns);
  const std::int64_t rows =
      std::max<std::int64_t>(1, kUnpackedAtOnce / std::max<std::int64_t>(1, y.columns));
  call.pool.run((y.rows + rows - 1) / rows, [&](std::int64_t i, int) {
    const std::int64_t first = i * rows;
    unpack(packed, {first, std::min(rows, y.rows - first), 0, y.columns},
           out.data + first * y.stride * size_of(type), type, y.stride);
  });
}

constexpr Kernel kKernels[] = {
    {.name = "cpu_packed_linear",
     .op = Op::packed_linear,
     .refuses = needs_bf16_or_f32,
     .grant = grant,
     .prepare = remember_isa,
     .run = linear_run},
    {.name = "cpu_packed_linear_dx",
     .op = Op::packed_linear_dx,
     .refuses = needs_bf16_or_f32,
     .grant = grant,
     .prepare = remember_isa,
     .run = dx_run},
    {.name = "cpu_dequantize",
     .op = Op::dequantize,
     .refuses = needs_bf16_or_f32,
     .run = dequantize_run},
};

}  // namespace

std::span<const Kernel> packed_products() { return kKernels; }

}  // namespace snug::cpu
