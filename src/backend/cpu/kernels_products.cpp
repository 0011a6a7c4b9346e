// Matrix products: linear layers and their gradients.

#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/reduce.h"

namespace snug::cpu {
namespace {

GemmMatrix matrix(const Operand& operand, bool k_contiguous) {
  return {operand.data, operand.layout.type.dtype, matrix_of(operand.layout).stride, k_contiguous};
}

GemmOutput output(const Operand& operand, bool accumulate) {
  GemmOutput out;
  out.data = operand.data;
  out.dtype = operand.layout.type.dtype;
  out.stride = matrix_of(operand.layout).stride;
  out.accumulate = accumulate;
  return out;
}

// linear: (x [T,K], w [N,K], bias?, acc?) -> [T,N].

GemmOutput linear_output(const KernelCall& call) {
  GemmOutput out = output(call.outputs[0], given(call.inputs, 3));
  if (given(call.inputs, 2)) {
    out.bias = call.inputs[2].data;
    out.bias_dtype = call.inputs[2].layout.type.dtype;
  }
  return out;
}

std::int64_t linear_grant(const KernelQuery& query) {
  const Matrix x = matrix_of(query.inputs[0]);
  const Matrix w = matrix_of(query.inputs[1]);
  const GemmShape shape{.m = x.rows,
                        .n = w.rows,
                        .k = x.columns,
                        .a = query.inputs[0].type.dtype,
                        .b = query.inputs[1].type.dtype};
  return gemm_scratch(shape, query.target.isa, query.target.threads);
}

void linear_run(const KernelCall& call) {
  const Matrix x = matrix_of(call.inputs[0].layout);
  const Matrix w = matrix_of(call.inputs[1].layout);
  gemm(x.rows, w.rows, x.columns, matrix(call.inputs[0], true), matrix(call.inputs[1], true),
       linear_output(call), isa_of(call), call.scratch, call.pool);
}

std::optional<std::string> small_refuses(const KernelQuery& query) {
  if (matrix_of(query.inputs[0]).rows > kSmallRows) return "more rows than memory speed pays for";
  return needs_bf16_or_f32(query);
}

void small_run(const KernelCall& call) {
  const Matrix x = matrix_of(call.inputs[0].layout);
  const Matrix w = matrix_of(call.inputs[1].layout);
  small_forward(x.rows, w.rows, x.columns, matrix(call.inputs[0], true),
                matrix(call.inputs[1], true), linear_output(call), call.pool);
}

// linear_dx: (dy [T,N], w [N,K], acc?) -> [T,K].

std::int64_t dx_grant(const KernelQuery& query) {
  const Matrix dy = matrix_of(query.inputs[0]);
  const Matrix w = matrix_of(query.inputs[1]);
  const GemmShape shape{.m = dy.rows,
                        .n = w.columns,
                        .k = dy.columns,
                        .a = query.inputs[0].type.dtype,
                        .b = query.inputs[1].type.dtype};
  return gemm_scratch(shape, query.target.isa, query.target.threads);
}

void dx_run(const KernelCall& call) {
  const Matrix dy = matrix_of(call.inputs[0].layout);
  const Matrix w = matrix_of(call.inputs[1].layout);
  gemm(dy.rows, w.columns, dy.columns, matrix(call.inputs[0], true), matrix(call.inputs[1], false),
       output(call.outputs[0], given(call.inputs, 2)), isa_of(call), call.scratch, call.pool);
}

// linear_dw: (dy [T,N], x [T,K], acc?, draw?) -> [N,K].

std::int64_t dw_grant(const KernelQuery& query) {
  const Matrix dy = matrix_of(query.inputs[0]);
  const Matrix x = matrix_of(query.inputs[1]);
  const GemmShape shape{.m = dy.columns,
                        .n = x.columns,
                        .k = dy.rows,
                        .a = query.inputs[0].type.dtype,
                        .b = query.inputs[1].type.dtype,
                        .a_k_contiguous = false,
                        .rounding = given(query.inputs, 3)};
  return gemm_scratch(shape, query.target.isa, query.target.threads);
}

void dw_run(const KernelCall& call) {
  const Matrix dy = matrix_of(call.inputs[0].layout);
  const Matrix x = matrix_of(call.inputs[1].layout);
  GemmOutput out = output(call.outputs[0], given(call.inputs, 2));
  RandomStream stream;
  if (gradient_output(call, 0, 2, 3, stream).rounding != nullptr) {
    out.rounding = StochasticRounding{stream, 0, static_cast<std::uint64_t>(x.columns)};
  }
  gemm(dy.columns, x.columns, dy.rows, matrix(call.inputs[0], false), matrix(call.inputs[1], false),
       out, isa_of(call), call.scratch, call.pool);
}

// column_sum: (dy [T,N], acc?, draw?) -> [N].

void column_sum_run(const KernelCall& call) {
  const Matrix dy = matrix_of(call.inputs[0].layout);
  RandomStream stream;
  column_sum(call.inputs[0].layout.type.dtype, dy.rows, dy.columns, rows_in(call.inputs[0]),
             gradient_output(call, 0, 1, 2, stream), call.pool);
}

constexpr Kernel kKernels[] = {
    // More rows are summed up in another order, by cpu_linear.
    {.name = "cpu_small_linear",
     .op = Op::linear,
     .refuses = small_refuses,
     .run = small_run,
     .row_invariant = false},
    {.name = "cpu_linear",
     .op = Op::linear,
     .refuses = needs_bf16_or_f32,
     .grant = linear_grant,
     .prepare = remember_isa,
     .run = linear_run},
    {.name = "cpu_linear_dx",
     .op = Op::linear_dx,
     .refuses = needs_bf16_or_f32,
     .grant = dx_grant,
     .prepare = remember_isa,
     .run = dx_run},
    {.name = "cpu_linear_dw",
     .op = Op::linear_dw,
     .refuses = needs_bf16_or_f32,
     .grant = dw_grant,
     .prepare = remember_isa,
     .run = dw_run},
    {.name = "cpu_column_sum",
     .op = Op::column_sum,
     .refuses = needs_bf16_or_f32,
     .run = column_sum_run},
};

}  // namespace

std::span<const Kernel> products() { return kKernels; }

}  // namespace snug::cpu
