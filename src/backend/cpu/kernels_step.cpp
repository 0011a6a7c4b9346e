// Ops over whole tensors of a step: norm, gate, initial values.

#include <algorithm>
#include <cmath>

#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/reduce.h"

namespace snug::cpu {
namespace {

std::int64_t norm_grant(const KernelQuery& query) {
  std::int64_t bytes = 0;
  for (const OperandLayout& gradient : query.inputs) {
    bytes = std::max(bytes, sum_of_squares_scratch(gradient.type.shape.elements()));
  }
  return bytes;
}

// global_norm: (gradients...) {max_norm} -> norm, clip, finite.
void norm_run(const KernelCall& call) {
  double sum = 0;
  for (const Operand& gradient : call.inputs) {
    const TensorType& type = gradient.layout.type;
    sum +=
        sum_of_squares(type.dtype, gradient.data, type.shape.elements(), call.scratch, call.pool);
  }
  const double norm = std::sqrt(sum);
  const double most = call.attributes.real("max_norm");
  const bool finite = std::isfinite(norm);
  *call.outputs[0].as<float>() = static_cast<float>(norm);
  *call.outputs[1].as<float>() =
      static_cast<float>(most > 0 && finite ? std::min(1.0, most / (norm + 1e-6)) : 1.0);
  *call.outputs[2].as<std::int32_t>() = finite ? 1 : 0;
}

// unscale_norm: (norm, inverse) {max_norm} -> norm, clip.
void unscale_run(const KernelCall& call) {
  const double inverse = *call.inputs[1].as<float>();
  const double norm = *call.inputs[0].as<float>() * inverse;
  const double most = call.attributes.real("max_norm");
  const double clip = most > 0 && std::isfinite(norm) ? std::min(1.0, most / (norm + 1e-6)) : 1.0;
  *call.outputs[0].as<float>() = static_cast<float>(norm);
  *call.outputs[1].as<float>() = static_cast<float>(inverse * clip);
}

void gate_run(const KernelCall& call) {
  *call.outputs[0].as<std::int32_t>() =
      *call.inputs[0].as<std::int32_t>() != 0 && *call.inputs[1].as<std::int32_t>() != 0 ? 1 : 0;
}

/// Elements of a block that one worker fills.
constexpr std::int64_t kFillBlock = 1 << 18;

void fill_run(const KernelCall& call) {
  const Operand& out = call.outputs[0];
  const double value = call.attributes.real("value");
  const std::int64_t count = out.layout.type.shape.elements();
  visit_dtype(out.layout.type.dtype, [&](auto zero) {
    using T = decltype(zero);
    T element;
    if constexpr (std::is_arithmetic_v<T>) {
      element = static_cast<T>(value);
    } else {
      element = T(static_cast<float>(value));
    }
    call.pool.run((count + kFillBlock - 1) / kFillBlock, [&](std::int64_t block, int) {
      const std::int64_t begin = block * kFillBlock;
      std::fill_n(out.as<T>() + begin, std::min(kFillBlock, count - begin), element);
    });
  });
}

std::optional<std::string> fill_refuses(const KernelQuery& query) {
  const Matrix m = matrix_of(query.outputs[0]);
  if (m.rows > 1 && m.stride != m.columns) return "rows with gaps";
  return std::nullopt;
}

constexpr Kernel kKernels[] = {
    {.name = "cpu_global_norm",
     .op = Op::global_norm,
     .refuses = needs_dense,
     .grant = norm_grant,
     .run = norm_run},
    {.name = "cpu_unscale_norm", .op = Op::unscale_norm, .run = unscale_run},
    {.name = "cpu_apply_gate", .op = Op::apply_gate, .run = gate_run},
    {.name = "cpu_fill", .op = Op::fill, .refuses = fill_refuses, .run = fill_run},
};

}  // namespace

std::span<const Kernel> steps() { return kKernels; }

}  // namespace snug::cpu
