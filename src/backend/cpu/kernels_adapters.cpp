// DoRA's column scales and norms, and dropout.

#include "backend/cpu/adapters.h"
#include "backend/cpu/cpu_kernels.h"

namespace snug::cpu {
namespace {

VectorIn vector_in(std::span<const Operand> operands, std::size_t i) {
  if (!given(operands, i)) return {};
  return {operands[i].data, operands[i].layout.type.dtype};
}

// scale_columns: (x [T,N], m [N], n [N], bias?) -> [T,N].

std::int64_t scale_columns_grant(const KernelQuery& query) {
  return scale_columns_scratch(query.inputs[0].type.shape[1]);
}

void scale_columns_run(const KernelCall& call) {
  const Matrix x = matrix_of(call.inputs[0].layout);
  scale_columns({.type = call.inputs[0].layout.type.dtype,
                 .rows = x.rows,
                 .columns = x.columns,
                 .x = rows_in(call.inputs[0]),
                 .m = vector_in(call.inputs, 1),
                 .n = call.inputs[2].as<float>(),
                 .bias = vector_in(call.inputs, 3),
                 .y = rows_out(call.outputs[0])},
                call.scratch, call.pool);
}

// scale_columns_dw: (dy [T,N], x [T,N], n [N], acc?, draw?) -> [N].

void scale_columns_dw_run(const KernelCall& call) {
  const Matrix x = matrix_of(call.inputs[1].layout);
  RandomStream stream;
  scale_columns_gradient(call.inputs[1].layout.type.dtype, x.rows, x.columns,
                         rows_in(call.inputs[0]), rows_in(call.inputs[1]),
                         call.inputs[2].as<float>(), gradient_output(call, 0, 3, 4, stream),
                         call.pool);
}

// dora_norm: (w [N,K], a [R,K], b [N,R]) -> [N].

GemmMatrix matrix(const OperandLayout& layout, const void* data) {
  return {data, layout.type.dtype, matrix_of(layout).stride, true};
}

DoraNorm norm_call(const OperandLayout& w, const OperandLayout& a) {
  return {.rows = w.type.shape[0],
          .columns = w.type.shape[1],
          .rank = a.type.shape[0],
          .w = matrix(w, nullptr),
          .a = matrix(a, nullptr),
          .b = {}};
}

std::int64_t dora_norm_grant(const KernelQuery& query) {
  return dora_norm_scratch(norm_call(query.inputs[0], query.inputs[1]), query.target.isa,
                           query.target.threads);
}

void dora_norm_run(const KernelCall& call) {
  DoraNorm norm = norm_call(call.inputs[0].layout, call.inputs[1].layout);
  norm.w.data = call.inputs[0].data;
  norm.a.data = call.inputs[1].data;
  norm.b = vector_in(call.inputs, 2);
  norm.scale = static_cast<float>(call.attributes.real("scale"));
  norm.out = call.outputs[0].as<float>();
  dora_norm(norm, isa_of(call), call.scratch, call.pool);
}

// dropout: (x [T,D], draw, rows, positions) -> [T,D].

void dropout_run(const KernelCall& call) {
  const Matrix x = matrix_of(call.inputs[0].layout);
  dropout({.type = call.inputs[0].layout.type.dtype,
           .tokens = x.rows,
           .width = x.columns,
           .x = rows_in(call.inputs[0]),
           .stream = dropout_stream(call.attributes, *call.inputs[1].as<std::int64_t>(), 0),
           .threshold = dropout_threshold(call.attributes),
           .rows = call.inputs[2].as<std::int32_t>(),
           .positions = call.inputs[3].as<std::int32_t>(),
           .y = rows_out(call.outputs[0])},
          call.pool);
}

constexpr Kernel kKernels[] = {
    {.name = "cpu_scale_columns",
     .op = Op::scale_columns,
     .refuses = needs_bf16_or_f32,
     .grant = scale_columns_grant,
     .run = scale_columns_run},
    {.name = "cpu_scale_columns_dw",
     .op = Op::scale_columns_dw,
     .refuses = needs_bf16_or_f32,
     .run = scale_columns_dw_run},
    {.name = "cpu_dora_norm",
     .op = Op::dora_norm,
     .refuses = needs_bf16_or_f32,
     .grant = dora_norm_grant,
     .prepare = remember_isa,
     .run = dora_norm_run},
    {.name = "cpu_dropout", .op = Op::dropout, .refuses = needs_bf16_or_f32, .run = dropout_run},
};

}  // namespace

std::span<const Kernel> adapters() { return kKernels; }

}  // namespace snug::cpu
