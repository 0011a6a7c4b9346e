#include "backend/cpu/cpu_backend.h"

#include "backend/cpu/cpu_kernels.h"

namespace snug {

CpuBackend::CpuBackend() {
  for (const auto& family :
       {cpu::products(), cpu::packed_products(), cpu::row_ops(), cpu::attentions(), cpu::adapters(),
        cpu::losses(), cpu::steps(), cpu::updates(), cpu::halves()}) {
    for (const Kernel& kernel : family) {
      by_op_[static_cast<std::size_t>(kernel.op)].push_back(&kernel);
    }
  }
  for (std::size_t op = 0; op < by_op_.size(); ++op) {
    const auto last = reference_.kernels(static_cast<Op>(op));
    by_op_[op].insert(by_op_[op].end(), last.begin(), last.end());
  }
}

std::span<const Kernel* const> CpuBackend::kernels(Op op) const {
  return by_op_[static_cast<std::size_t>(op)];
}

namespace cpu {

Matrix matrix_of(const OperandLayout& layout) {
  const Shape& shape = layout.type.shape;
  if (shape.rank() <= 1) return {1, shape.elements(), shape.elements()};
  const std::int64_t rows = shape[0];
  return {rows, rows == 0 ? 0 : shape.elements() / rows, layout.row_stride};
}

RowsIn rows_in(const Operand& operand) { return {operand.data, matrix_of(operand.layout).stride}; }

RowsOut rows_out(const Operand& operand) {
  return {operand.data, matrix_of(operand.layout).stride};
}

std::optional<std::string> needs_bf16_or_f32(const KernelQuery& query) {
  for (const auto& operands : {query.inputs, query.outputs}) {
    for (const OperandLayout& layout : operands) {
      if (!layout.present || !is_float(layout.type.dtype)) continue;
      if (layout.type.dtype != DType::bf16 && layout.type.dtype != DType::f32) {
        return fmt::format("{} operands; bf16 and f32 are supported", name_of(layout.type.dtype));
      }
    }
  }
  return std::nullopt;
}

std::optional<std::string> needs_dense(const KernelQuery& query) {
  for (const auto& operands : {query.inputs, query.outputs}) {
    for (const OperandLayout& layout : operands) {
      const Matrix m = matrix_of(layout);
      if (layout.present && m.rows > 1 && m.stride != m.columns) return "rows with gaps";
    }
  }
  return needs_bf16_or_f32(query);
}

std::optional<std::string> needs_one_type(const KernelQuery& query) {
  if (auto reason = needs_bf16_or_f32(query)) return reason;
  const DType first = query.outputs.front().type.dtype;
  for (const auto& operands : {query.inputs, query.outputs}) {
    for (const OperandLayout& layout : operands) {
      if (layout.present && is_float(layout.type.dtype) && layout.type.dtype != first) {
        return "operands of two float types";
      }
    }
  }
  return std::nullopt;
}

GradientOutput gradient_output(const KernelCall& call, std::size_t out, std::size_t acc,
                               std::size_t draw, RandomStream& stream) {
  const Operand& target = call.outputs[out];
  GradientOutput output{
      .type = target.layout.type.dtype, .data = target.data, .accumulate = given(call.inputs, acc)};
  if (given(call.inputs, draw) && output.type == DType::bf16) {
    stream = rounding_stream(call.attributes, *call.inputs[draw].as<std::int64_t>());
    output.rounding = &stream;
  }
  return output;
}

std::unique_ptr<Prepared> remember_isa(const KernelQuery& query) {
  return std::make_unique<TargetIsa>(query.target.isa);
}

Isa isa_of(const KernelCall& call) { return static_cast<const TargetIsa*>(call.prepared)->isa; }

}  // namespace cpu
}  // namespace snug
