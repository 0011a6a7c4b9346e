// Norms, rotary embedding, activation, element by element ops and the embedding.

#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/elementwise.h"
#include "backend/cpu/embedding.h"
#include "backend/cpu/norm.h"
#include "backend/cpu/rope.h"
#include "backend/cpu/swiglu.h"

namespace snug::cpu {
namespace {

/// x [.., D]: tokens are the outermost dimension, groups what lies between.
NormShape norm_shape(const OperandLayout& x, DType weight, const Attributes& attributes) {
  const Shape& shape = x.type.shape;
  const std::int64_t width = shape[-1];
  const std::int64_t tokens = shape.rank() == 1 ? 1 : shape[0];
  return {.type = x.type.dtype,
          .weight_type = weight,
          .tokens = tokens,
          .groups = shape.elements() / (tokens * width),
          .width = width,
          .eps = static_cast<float>(attributes.real("eps"))};
}

void rms_norm_run(const KernelCall& call) {
  const Operand& x = call.inputs[0];
  rms_norm_forward(
      {.shape = norm_shape(x.layout, call.inputs[1].layout.type.dtype, call.attributes),
       .x = x.data,
       .x_stride = matrix_of(x.layout).stride,
       .weight = call.inputs[1].data,
       .y = call.outputs[0].data,
       .y_stride = matrix_of(call.outputs[0].layout).stride},
      call.pool);
}

void rms_norm_dx_run(const KernelCall& call) {
  const Operand& x = call.inputs[1];
  rms_norm_backward(
      {.shape = norm_shape(x.layout, call.inputs[2].layout.type.dtype, call.attributes),
       .x = x.data,
       .x_stride = matrix_of(x.layout).stride,
       .weight = call.inputs[2].data,
       .dy = call.inputs[0].data,
       .dy_stride = matrix_of(call.inputs[0].layout).stride,
       .dx = call.outputs[0].data,
       .dx_stride = matrix_of(call.outputs[0].layout).stride},
      call.scratch, call.pool);
}

std::int64_t rms_norm_dw_grant(const KernelQuery& query) {
  return rms_norm_backward_scratch(
      norm_shape(query.inputs[1], query.outputs[0].type.dtype, query.attributes));
}

void rms_norm_dw_run(const KernelCall& call) {
  const Operand& x = call.inputs[1];
  RandomStream stream;
  const GradientOutput dw = gradient_output(call, 0, 2, 3, stream);
  rms_norm_backward({.shape = norm_shape(x.layout, dw.type, call.attributes),
                     .x = x.data,
                     .x_stride = matrix_of(x.layout).stride,
                     .dy = call.inputs[0].data,
                     .dy_stride = matrix_of(call.inputs[0].layout).stride,
                     .dw = &dw},
                    call.scratch, call.pool);
}

std::optional<std::string> norm_refuses(const KernelQuery& query) {
  // The first two operands are rows of one type; weights and their gradients may differ.
  const std::size_t rows = query.op == Op::rms_norm ? 1 : 2;
  for (std::size_t i = 1; i < rows; ++i) {
    if (query.inputs[i].type.dtype != query.inputs[0].type.dtype) return "rows of two types";
  }
  return needs_bf16_or_f32(query);
}

void rope_run(const KernelCall& call) {
  const Operand& x = call.inputs[0];
  const Shape& shape = x.layout.type.shape;
  rope({.type = x.layout.type.dtype,
        .tokens = shape[0],
        .heads = shape[1],
        .head_dim = shape[2],
        .x = x.data,
        .x_stride = x.layout.row_stride,
        .cos = call.inputs[1].as<float>(),
        .sin = call.inputs[2].as<float>(),
        .max_positions = call.inputs[1].layout.type.shape[0],
        .positions = call.inputs[3].as<std::int32_t>(),
        .inverse = call.attributes.integer_or("inverse", 0) != 0,
        .y = call.outputs[0].data,
        .y_stride = call.outputs[0].layout.row_stride},
       call.pool);
}

void silu_mul_run(const KernelCall& call) {
  const Matrix rows = matrix_of(call.inputs[0].layout);
  silu_mul({.type = call.inputs[0].layout.type.dtype,
            .rows = rows.rows,
            .columns = rows.columns,
            .gate = rows_in(call.inputs[0]),
            .up = rows_in(call.inputs[1]),
            .y = rows_out(call.outputs[0])},
           call.pool);
}

void silu_mul_grad_run(const KernelCall& call) {
  const Matrix rows = matrix_of(call.inputs[0].layout);
  silu_mul_grad({.type = call.inputs[0].layout.type.dtype,
                 .rows = rows.rows,
                 .columns = rows.columns,
                 .gate = rows_in(call.inputs[0]),
                 .up = rows_in(call.inputs[1]),
                 .dy = rows_in(call.inputs[2]),
                 .dgate = rows_out(call.outputs[0]),
                 .dup = rows_out(call.outputs[1])},
                call.pool);
}

void add_run(const KernelCall& call) {
  const Matrix rows = matrix_of(call.outputs[0].layout);
  add({call.outputs[0].layout.type.dtype, rows.rows, rows.columns}, rows_in(call.inputs[0]),
      rows_in(call.inputs[1]), rows_out(call.outputs[0]), call.pool);
}

void scale_run(const KernelCall& call) {
  const Matrix rows = matrix_of(call.outputs[0].layout);
  scale({call.outputs[0].layout.type.dtype, rows.rows, rows.columns}, rows_in(call.inputs[0]),
        static_cast<float>(call.attributes.real("factor")), rows_out(call.outputs[0]), call.pool);
}

void cast_run(const KernelCall& call) {
  const Matrix rows = matrix_of(call.outputs[0].layout);
  cast(call.inputs[0].layout.type.dtype, call.outputs[0].layout.type.dtype, rows.rows, rows.columns,
       rows_in(call.inputs[0]), rows_out(call.outputs[0]), call.pool);
}

std::optional<std::string> cast_refuses(const KernelQuery& query) {
  if (!is_float(query.inputs[0].type.dtype)) return "integers";
  return needs_bf16_or_f32(query);
}

void copy_run(const KernelCall& call) {
  const Matrix rows = matrix_of(call.outputs[0].layout);
  copy_rows(call.outputs[0].layout.type.dtype, rows.rows, rows.columns, rows_in(call.inputs[0]),
            rows_out(call.outputs[0]), call.pool);
}

// write_rows: (whole?, part) {begin} -> version of whole.
void write_rows_run(const KernelCall& call) {
  const Operand& part = call.inputs[1];
  const Operand& whole = call.outputs[0];
  const Matrix rows = matrix_of(part.layout);
  const std::int64_t stride = matrix_of(whole.layout).stride;
  const std::int64_t skipped =
      call.attributes.integer("begin") * stride * size_of(whole.layout.type.dtype);
  copy_rows(part.layout.type.dtype, rows.rows, rows.columns, rows_in(part),
            {whole.data + skipped, stride}, call.pool);
}

EmbeddingShape embedding_shape(const OperandLayout& rows, std::int64_t vocabulary) {
  return {.type = rows.type.dtype,
          .tokens = rows.type.shape[0],
          .vocabulary = vocabulary,
          .width = rows.type.shape[1]};
}

void embedding_run(const KernelCall& call) {
  embedding(embedding_shape(call.outputs[0].layout, call.inputs[0].layout.type.shape[0]),
            rows_in(call.inputs[0]), call.inputs[1].as<std::int32_t>(), rows_out(call.outputs[0]),
            call.pool);
}

std::int64_t embedding_dw_grant(const KernelQuery& query) {
  return embedding_gradient_scratch(
      embedding_shape(query.inputs[0], query.outputs[0].type.shape[0]), query.target.threads);
}

void embedding_dw_run(const KernelCall& call) {
  RandomStream stream;
  embedding_gradient(embedding_shape(call.inputs[0].layout, call.outputs[0].layout.type.shape[0]),
                     rows_in(call.inputs[0]), call.inputs[1].as<std::int32_t>(),
                     gradient_output(call, 0, 2, 3, stream), call.scratch, call.pool);
}

constexpr Kernel kKernels[] = {
    {.name = "cpu_rms_norm", .op = Op::rms_norm, .refuses = norm_refuses, .run = rms_norm_run},
    {.name = "cpu_rms_norm_dx",
     .op = Op::rms_norm_dx,
     .refuses = norm_refuses,
     .run = rms_norm_dx_run},
    {.name = "cpu_rms_norm_dw",
     .op = Op::rms_norm_dw,
     .refuses = norm_refuses,
     .grant = rms_norm_dw_grant,
     .run = rms_norm_dw_run},
    {.name = "cpu_rope", .op = Op::rope, .refuses = needs_bf16_or_f32, .run = rope_run},
    {.name = "cpu_silu_mul", .op = Op::silu_mul, .refuses = needs_one_type, .run = silu_mul_run},
    {.name = "cpu_silu_mul_grad",
     .op = Op::silu_mul_grad,
     .refuses = needs_one_type,
     .run = silu_mul_grad_run},
    {.name = "cpu_add", .op = Op::add, .refuses = needs_one_type, .run = add_run},
    {.name = "cpu_scale", .op = Op::scale, .refuses = needs_one_type, .run = scale_run},
    {.name = "cpu_cast", .op = Op::cast, .refuses = cast_refuses, .run = cast_run},
    {.name = "cpu_copy", .op = Op::copy, .run = copy_run},
    {.name = "cpu_write_rows", .op = Op::write_rows, .run = write_rows_run},
    {.name = "cpu_embedding", .op = Op::embedding, .refuses = needs_one_type, .run = embedding_run},
    {.name = "cpu_embedding_dw",
     .op = Op::embedding_dw,
     .refuses = needs_bf16_or_f32,
     .grant = embedding_dw_grant,
     .run = embedding_dw_run},
};

}  // namespace

std::span<const Kernel> row_ops() { return kKernels; }

}  // namespace snug::cpu
