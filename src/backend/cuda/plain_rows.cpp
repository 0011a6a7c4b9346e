// Norms and other reductions, a team a row.

#include "backend/cuda/bodies_rows.h"
#include "backend/cuda/cuda_kernels.h"
#include "backend/cuda/operands.h"

namespace snug::cuda {
namespace {

void rms_norm(const KernelCall& call) {
  const Shape& x = shape_in(call, 0);
  teams(call.queue, x.rows(), RmsNorm{in(call, 0), in(call, 1), out(call, 0), x[-1], eps_of(call)});
}

void rms_norm_dx(const KernelCall& call) {
  const Shape& x = shape_in(call, 1);
  teams(call.queue, x.rows(),
        RmsNormDx{in(call, 0), in(call, 1), in(call, 2), out(call, 0), x[-1], eps_of(call)});
}

std::int64_t stretches(std::int64_t rows) { return (rows + kColumnRows - 1) / kColumnRows; }

std::int64_t parts_bytes(std::int64_t rows, std::int64_t columns) {
  return Pieces::bytes(stretches(rows) * columns, sizeof(float));
}

/// The sum over rows of dy (* x) (* r), divided by `divisor`, into y.
void column_sums(const KernelCall& call, Pieces& pieces, const View& dy, const View& x,
                 const float* r, const View& divisor, const Sum& y, std::int64_t columns) {
  const std::int64_t rows = dy.size / columns;
  auto* const parts = pieces.take<float>(stretches(rows) * columns);
  each(call.queue, stretches(rows) * columns, ColumnParts{dy, x, r, parts, columns, rows});
  each(call.queue, columns, ColumnTotals{parts, divisor, y, columns, stretches(rows)});
}

std::int64_t rms_norm_dw_grant(const KernelQuery& query) {
  const Shape& x = query.inputs[1].type.shape;
  return Pieces::bytes(x.rows(), sizeof(float)) + parts_bytes(x.rows(), x[-1]);
}

void rms_norm_dw(const KernelCall& call) {
  const Shape& x = shape_in(call, 1);
  Pieces pieces(call.scratch);
  auto* const r = pieces.take<float>(x.rows());
  teams(call.queue, x.rows(), InverseRms{in(call, 1), r, x[-1], eps_of(call)});
  column_sums(call, pieces, in(call, 0), in(call, 1), r, {}, sum_of(call, 0, 2), x[-1]);
}

std::int64_t column_grant(const KernelQuery& query) {
  const Shape& dy = query.inputs[0].type.shape;
  return parts_bytes(dy[0], dy[1]);
}

void column_sum(const KernelCall& call) {
  Pieces pieces(call.scratch);
  column_sums(call, pieces, in(call, 0), {}, nullptr, {}, sum_of(call, 0, 1), shape_in(call, 0)[1]);
}

void scale_columns_dw(const KernelCall& call) {
  Pieces pieces(call.scratch);
  column_sums(call, pieces, in(call, 0), in(call, 1), nullptr, in(call, 2), sum_of(call, 0, 3),
              shape_in(call, 0)[1]);
}

void dora_norm(const KernelCall& call) {
  const Shape& w = shape_in(call, 0);
  teams(call.queue, w[0],
        DoraNorm{in(call, 0), in(call, 1), in(call, 2), out(call, 0), w[1], shape_in(call, 1)[0],
                 static_cast<float>(call.attributes.real("scale"))});
}

std::int64_t norm_blocks(std::int64_t elements) { return (elements + kNormBlock - 1) / kNormBlock; }

std::int64_t global_norm_grant(const KernelQuery& query) {
  std::int64_t blocks = 0;
  for (const OperandLayout& x : query.inputs) blocks += norm_blocks(x.type.shape.elements());
  return Pieces::bytes(blocks, sizeof(double));
}

void global_norm(const KernelCall& call) {
  auto* const parts = reinterpret_cast<double*>(call.scratch.data());
  std::int64_t done = 0;
  for (std::size_t i = 0; i < call.inputs.size(); ++i) {
    const View x = in(call, i);
    teams(call.queue, norm_blocks(x.size), SquareParts{x, parts + done});
    done += norm_blocks(x.size);
  }
  teams(call.queue, 1,
        GlobalNorm{parts, done, call.attributes.real("max_norm"), call.outputs[0].as<float>(),
                   call.outputs[1].as<float>(), call.outputs[2].as<std::int32_t>()});
}

void unscale_norm(const KernelCall& call) {
  each(call.queue, 1,
       UnscaleNorm{pointer<const float>(call, 0), pointer<const float>(call, 1),
                   call.attributes.real("max_norm"), call.outputs[0].as<float>(),
                   call.outputs[1].as<float>()});
}

constexpr Kernel kKernels[] = {
    {.name = "cuda_plain_rms_norm", .op = Op::rms_norm, .refuses = refuses_double, .run = rms_norm},
    {.name = "cuda_plain_rms_norm_dx",
     .op = Op::rms_norm_dx,
     .refuses = refuses_double,
     .run = rms_norm_dx},
    {.name = "cuda_plain_rms_norm_dw",
     .op = Op::rms_norm_dw,
     .refuses = refuses_double,
     .grant = rms_norm_dw_grant,
     .run = rms_norm_dw},
    {.name = "cuda_plain_column_sum",
     .op = Op::column_sum,
     .refuses = refuses_double,
     .grant = column_grant,
     .run = column_sum},
    {.name = "cuda_plain_scale_columns_dw",
     .op = Op::scale_columns_dw,
     .refuses = refuses_double,
     .grant = column_grant,
     .run = scale_columns_dw},
    {.name = "cuda_plain_dora_norm",
     .op = Op::dora_norm,
     .refuses = refuses_double,
     .run = dora_norm},
    {.name = "cuda_plain_global_norm",
     .op = Op::global_norm,
     .refuses = refuses_double,
     .grant = global_norm_grant,
     .run = global_norm},
    {.name = "cuda_plain_unscale_norm", .op = Op::unscale_norm, .run = unscale_norm},
};

}  // namespace

std::span<const Kernel> plain_rows() { return kKernels; }

}  // namespace snug::cuda
