// The head and its loss.

#include <algorithm>

#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/head_loss.h"

namespace snug::cpu {
namespace {

/// What the graph leaves open (0) is all of it.
HeadLoss shape_of(const OperandLayout& x, const OperandLayout& w, const Attributes& attributes) {
  const auto chunk = [&](const char* name, std::int64_t all) {
    const std::int64_t most = std::max<std::int64_t>(1, all);
    const std::int64_t size = attributes.integer_or(name, 0);
    return size > 0 ? std::min(size, most) : most;
  };
  return {.type = x.type.dtype,
          .tokens = x.type.shape[0],
          .width = x.type.shape[1],
          .vocabulary = w.type.shape[0],
          .chunk_rows = chunk("chunk_rows", x.type.shape[0]),
          .chunk_columns = chunk("chunk_columns", w.type.shape[0])};
}

template <class Layouts>
HeadLoss gradient_shape(const OperandLayout& x, const OperandLayout& w,
                        const Attributes& attributes, const Layouts& outputs) {
  HeadLoss shape = shape_of(x, w, attributes);
  shape.gradients = true;
  shape.weight_gradient = outputs.size() > 2;
  return shape;
}

std::int64_t loss_grant(const KernelQuery& query) {
  return head_loss_scratch(shape_of(query.inputs[0], query.inputs[1], query.attributes),
                           query.target.isa, query.target.threads);
}

HeadLossCall loss_call(const KernelCall& call, const HeadLoss& shape) {
  return {.shape = shape,
          .head = {.x = rows_in(call.inputs[0]), .w = rows_in(call.inputs[1]), .dx = {}},
          .adapter = {},
          .labels = call.inputs[2].as<std::int32_t>(),
          .weight = 1};
}

void loss_run(const KernelCall& call) {
  const HeadLoss shape = shape_of(call.inputs[0].layout, call.inputs[1].layout, call.attributes);
  *call.outputs[0].as<float>() =
      static_cast<float>(head_loss(loss_call(call, shape), isa_of(call), call.scratch, call.pool));
}

std::int64_t grad_grant(const KernelQuery& query) {
  return head_loss_scratch(
      gradient_shape(query.inputs[0], query.inputs[1], query.attributes, query.outputs),
      query.target.isa, query.target.threads);
}

void grad_run(const KernelCall& call) {
  const HeadLoss shape =
      gradient_shape(call.inputs[0].layout, call.inputs[1].layout, call.attributes, call.outputs);
  HeadLossCall head = loss_call(call, shape);
  head.weight = *call.inputs[3].as<float>();
  head.head.dx = rows_out(call.outputs[1]);
  RandomStream stream;
  if (shape.weight_gradient) head.head.dw = gradient_output(call, 2, 4, 5, stream);
  *call.outputs[0].as<float>() =
      static_cast<float>(head_loss(head, isa_of(call), call.scratch, call.pool));
}

// The same with an adapter: (x, w, labels, low [T,R], up [V,R], weight?, acc?, draw?).

template <class Operands>
HeadLoss adapted_shape(const Operands& layout_of, const Attributes& attributes, bool gradients) {
  HeadLoss shape = shape_of(layout_of(0), layout_of(1), attributes);
  shape.gradients = gradients;
  shape.rank = layout_of(3).type.shape[1];
  return shape;
}

HeadLoss adapted_shape(const KernelCall& call, bool gradients) {
  return adapted_shape([&](std::size_t i) -> const OperandLayout& { return call.inputs[i].layout; },
                       call.attributes, gradients);
}

std::int64_t adapted_grant(const KernelQuery& query) {
  const HeadLoss shape =
      adapted_shape([&](std::size_t i) -> const OperandLayout& { return query.inputs[i]; },
                    query.attributes, query.outputs.size() > 1);
  return head_loss_scratch(shape, query.target.isa, query.target.threads);
}

void adapted_loss_run(const KernelCall& call) {
  HeadLossCall head = loss_call(call, adapted_shape(call, false));
  head.adapter = {.x = rows_in(call.inputs[3]), .w = rows_in(call.inputs[4]), .dx = {}};
  *call.outputs[0].as<float>() =
      static_cast<float>(head_loss(head, isa_of(call), call.scratch, call.pool));
}

void adapted_grad_run(const KernelCall& call) {
  HeadLossCall head = loss_call(call, adapted_shape(call, true));
  RandomStream stream;
  head.head.dx = rows_out(call.outputs[1]);
  head.adapter = {.x = rows_in(call.inputs[3]),
                  .w = rows_in(call.inputs[4]),
                  .dx = rows_out(call.outputs[2]),
                  .dw = gradient_output(call, 3, 6, 7, stream)};
  head.weight = *call.inputs[5].as<float>();
  *call.outputs[0].as<float>() =
      static_cast<float>(head_loss(head, isa_of(call), call.scratch, call.pool));
}

std::optional<std::string> adapted_refuses(const KernelQuery& query) {
  for (const std::size_t i : {1, 3, 4}) {
    if (query.inputs[i].type.dtype != query.inputs[0].type.dtype) return "rows of two types";
  }
  return needs_bf16_or_f32(query);
}

std::optional<std::string> refuses(const KernelQuery& query) {
  if (query.inputs[0].type.dtype != query.inputs[1].type.dtype) return "x and w of two types";
  return needs_bf16_or_f32(query);
}

constexpr Kernel kKernels[] = {
    {.name = "cpu_head_loss",
     .op = Op::head_loss,
     .refuses = refuses,
     .grant = loss_grant,
     .prepare = remember_isa,
     .run = loss_run},
    {.name = "cpu_head_loss_grad",
     .op = Op::head_loss_grad,
     .refuses = refuses,
     .grant = grad_grant,
     .prepare = remember_isa,
     .run = grad_run},
    {.name = "cpu_adapted_head_loss",
     .op = Op::adapted_head_loss,
     .refuses = adapted_refuses,
     .grant = adapted_grant,
     .prepare = remember_isa,
     .run = adapted_loss_run},
    {.name = "cpu_adapted_head_loss_grad",
     .op = Op::adapted_head_loss_grad,
     .refuses = adapted_refuses,
     .grant = adapted_grant,
     .prepare = remember_isa,
     .run = adapted_grad_run},
};

}  // namespace

std::span<const Kernel> losses() { return kKernels; }

}  // namespace snug::cpu
