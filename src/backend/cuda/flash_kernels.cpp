// Tiled attention for bf16 and f16 heads up to 256 wide: compute capability 8.0, at most 66.75 KiB
// of shared memory a block. Gradients are summed by blocks that own them: one order, no atomics.

#include <array>
#include <span>

#include "backend/cuda/blocks.h"
#include "backend/cuda/cuda_kernels.h"
#include "backend/cuda/flash.h"
#include "backend/cuda/operands.h"

namespace snug::cuda {
namespace {

/// 16-byte loads: widths and strides in eights of elements.
bool in_eights(const OperandLayout& layout) {
  const Shape& shape = layout.type.shape;
  const std::int64_t row = layout.row_stride == 0 ? shape[1] * shape[2] : layout.row_stride;
  return shape[2] % 8 == 0 && row % 8 == 0;
}

std::optional<std::string> refuses(const KernelQuery& query) {
  const TensorType& q = query.inputs[0].type;
  if (q.dtype != DType::bf16 && q.dtype != DType::f16) return std::string(name_of(q.dtype));
  if (q.shape[2] > kFlashWidest) return fmt::format("heads {} wide", q.shape[2]);
  constexpr std::array<std::size_t, 5> kRows = {0, 1, 2, 4, 6};  // q, k, v; o and its gradient
  const std::size_t count = query.op == Op::attention_grad ? 5 : 3;
  for (const std::size_t i : std::span(kRows).first(count)) {
    if (!in_eights(query.inputs[i])) return "heads or rows that are not in eights";
  }
  for (const OperandLayout& layout : query.outputs) {
    if (layout.type.shape.rank() == 3 && !in_eights(layout)) {
      return "heads or rows that are not in eights";
    }
  }
  if (q.shape[0] > INT32_MAX) return "too many tokens";
  if (const char* const reason =
          misses(flash_block(static_cast<int>(q.shape[2])), query.target.card)) {
    return reason;
  }
  return std::nullopt;
}

HeadRows rows(const Operand& operand) {
  const Shape& shape = operand.layout.type.shape;
  const std::int64_t stride = operand.layout.row_stride;
  return {operand.data, stride == 0 ? shape[1] * shape[2] : stride};
}

FlashShape shape_of(const KernelCall& call) {
  const Shape& q = shape_in(call, 0);
  return {.type = call.inputs[0].layout.type.dtype,
          .tokens = static_cast<int>(q[0]),
          .heads = static_cast<int>(q[1]),
          .groups = static_cast<int>(shape_in(call, 1)[1]),
          .width = static_cast<int>(q[2]),
          .window = static_cast<int>(call.attributes.integer_or("window", 0)),
          .scale = static_cast<float>(call.attributes.real("scale")),
          .doc_start = pointer<const std::int32_t>(call, 3)};
}

void forward(const KernelCall& call) {
  run_flash_forward(call.queue, {.shape = shape_of(call),
                                 .q = rows(call.inputs[0]),
                                 .k = rows(call.inputs[1]),
                                 .v = rows(call.inputs[2]),
                                 .o = rows(call.outputs[0]),
                                 .lse = call.outputs[1].as<float>()});
}

std::int64_t backward_grant(const KernelQuery& query) {
  const Shape& q = query.inputs[0].type.shape;
  return Pieces::bytes(q[0] * q[1], sizeof(float));
}

void backward(const KernelCall& call) {
  run_flash_backward(call.queue, {.shape = shape_of(call),
                                  .q = rows(call.inputs[0]),
                                  .k = rows(call.inputs[1]),
                                  .v = rows(call.inputs[2]),
                                  .o = rows(call.inputs[4]),
                                  .d_o = rows(call.inputs[6]),
                                  .dq = rows(call.outputs[0]),
                                  .dk = rows(call.outputs[1]),
                                  .dv = rows(call.outputs[2]),
                                  .lse = pointer<const float>(call, 5),
                                  .delta = reinterpret_cast<float*>(call.scratch.data())});
}

constexpr Kernel kKernels[] = {
    {.name = "cuda_flash_attention", .op = Op::attention, .refuses = refuses, .run = forward},
    {.name = "cuda_flash_attention_grad",
     .op = Op::attention_grad,
     .refuses = refuses,
     .grant = backward_grant,
     .run = backward},
};

}  // namespace

std::span<const Kernel> flash_attention() { return kKernels; }

}  // namespace snug::cuda
