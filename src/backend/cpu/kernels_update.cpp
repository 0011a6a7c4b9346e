// Updates: operands as UpdateOperand names them, states and scalars behind.

#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/update.h"

namespace snug::cpu {
namespace {

const float* floats(const KernelCall& call, std::size_t i) {
  return given(call.inputs, i) ? call.inputs[i].as<float>() : nullptr;
}
const float* scalar(const KernelCall& call, std::size_t states, std::size_t i) {
  return floats(call, kUpdateStates + states + i);
}
const Operand& state(const KernelCall& call, std::size_t i) { return call.outputs[1 + i]; }

/// A 32-bit state.
float* plain(const KernelCall& call, std::size_t i) { return state(call, i).as<float>(); }
/// An 8-bit state: codes and absmax from state i on.
CodedState coded(const KernelCall& call, std::size_t i) {
  return {state(call, i).as<std::uint8_t>(), plain(call, i + 1)};
}

/// The update with the random bits it may point to.
struct Operands {
  explicit Operands(const KernelCall& call) {
    const Operand& weight = call.outputs[0];
    update = {
        .count = weight.layout.type.shape.elements(),
        .weight_type = weight.layout.type.dtype,
        .weight = weight.data,
        .master = given(call.inputs, kUpdateMaster) ? call.outputs.back().as<float>() : nullptr,
        .gradient_type = call.inputs[kUpdateGradient].layout.type.dtype,
        .gradient = call.inputs[kUpdateGradient].data,
        .lr = floats(call, kUpdateRate),
        .clip = floats(call, kUpdateClip),
        .apply = given(call.inputs, kUpdateApply) ? call.inputs[kUpdateApply].as<std::int32_t>()
                                                  : nullptr,
        .weight_decay = call.attributes.real("weight_decay")};
    if (given(call.inputs, kUpdateDraw)) {
      stream = rounding_stream(call.attributes, *call.inputs[kUpdateDraw].as<std::int64_t>());
      update.rounding = &stream;
    }
  }
  Operands(const Operands&) = delete;
  Operands& operator=(const Operands&) = delete;

  Update update;
  RandomStream stream;
};

AdamWRule adamw_rule(const KernelCall& call, std::size_t states) {
  return {.correction1 = scalar(call, states, 0),
          .correction2 = scalar(call, states, 1),
          .beta1 = call.attributes.real("beta1"),
          .beta2 = call.attributes.real("beta2"),
          .eps = call.attributes.real("eps")};
}

void adamw_run(const KernelCall& call) {
  const Operands operands(call);
  adamw(operands.update, adamw_rule(call, 2),
        {state(call, 0).layout.type.dtype, state(call, 0).data, state(call, 1).data}, call.pool);
}

void adamw_8bit_run(const KernelCall& call) {
  const Operands operands(call);
  adamw_8bit(operands.update, adamw_rule(call, 4),
             {coded(call, 0), coded(call, 2), call.attributes.integer("root") != 0}, call.pool);
}

LionRule lion_rule(const KernelCall& call) {
  return {.beta1 = call.attributes.real("beta1"), .beta2 = call.attributes.real("beta2")};
}

void lion_run(const KernelCall& call) {
  const Operands operands(call);
  lion(operands.update, lion_rule(call), plain(call, 0), call.pool);
}

void lion_8bit_run(const KernelCall& call) {
  const Operands operands(call);
  lion_8bit(operands.update, lion_rule(call), coded(call, 0), call.pool);
}

void sgd_run(const KernelCall& call) {
  const Operands operands(call);
  sgd(operands.update, {}, nullptr, call.pool);
}

void sgd_momentum_run(const KernelCall& call) {
  const Operands operands(call);
  sgd(operands.update,
      {.momentum = call.attributes.real("momentum"),
       .nesterov = call.attributes.integer("nesterov") != 0},
      plain(call, 0), call.pool);
}

void run_adafactor(const KernelCall& call, std::size_t states, const AdafactorState& state) {
  const Operands operands(call);
  adafactor(operands.update,
            {.torch = call.attributes.text("form") == "torch",
             .eps1 = call.attributes.real("eps1"),
             .eps2 = call.attributes.real("eps2"),
             .clip_threshold = call.attributes.real("clip_threshold"),
             .scale_parameter = call.attributes.integer("scale_parameter") != 0,
             .rate = scalar(call, states, 0),
             .rest = scalar(call, states, 1)},
            state, call.scratch, call.pool);
}

void adafactor_run(const KernelCall& call) {
  const Shape& shape = call.outputs[0].layout.type.shape;
  run_adafactor(call, 2, {shape[0], shape[1], plain(call, 0), plain(call, 1)});
}

void adafactor_vector_run(const KernelCall& call) {
  const std::int64_t count = call.outputs[0].layout.type.shape.elements();
  run_adafactor(call, 1, {1, count, nullptr, plain(call, 0)});
}

std::int64_t adafactor_grant(const KernelQuery& query) {
  const Shape& shape = query.outputs[0].type.shape;
  return query.op == Op::adafactor ? adafactor_scratch(shape[0], shape[1])
                                   : adafactor_scratch(1, shape.elements());
}

/// Rows without gaps, master and states in the types that the kernels have.
std::optional<std::string> refuses(const KernelQuery& query) {
  if (given(query.inputs, kUpdateMaster) && query.inputs[kUpdateMaster].type.dtype != DType::f32) {
    return "the master is not f32";
  }
  for (std::size_t i = 1; i < query.outputs.size(); ++i) {
    const DType type = query.outputs[i].type.dtype;
    if (type == DType::bf16 && query.op != Op::adamw) return "a state in bf16";
  }
  return needs_dense(query);
}

constexpr Kernel kKernels[] = {
    {.name = "cpu_adamw", .op = Op::adamw, .refuses = refuses, .run = adamw_run},
    {.name = "cpu_adamw_8bit", .op = Op::adamw_8bit, .refuses = refuses, .run = adamw_8bit_run},
    {.name = "cpu_adafactor",
     .op = Op::adafactor,
     .refuses = refuses,
     .grant = adafactor_grant,
     .run = adafactor_run},
    {.name = "cpu_adafactor_vector",
     .op = Op::adafactor_vector,
     .refuses = refuses,
     .grant = adafactor_grant,
     .run = adafactor_vector_run},
    {.name = "cpu_lion", .op = Op::lion, .refuses = refuses, .run = lion_run},
    {.name = "cpu_lion_8bit", .op = Op::lion_8bit, .refuses = refuses, .run = lion_8bit_run},
    {.name = "cpu_sgd", .op = Op::sgd, .refuses = refuses, .run = sgd_run},
    {.name = "cpu_sgd_momentum",
     .op = Op::sgd_momentum,
     .refuses = refuses,
     .run = sgd_momentum_run},
};

}  // namespace

std::span<const Kernel> updates() { return kKernels; }

}  // namespace snug::cpu
