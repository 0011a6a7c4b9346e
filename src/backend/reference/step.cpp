// Ops on whole steps: the gradient norm and the gate.

#include <algorithm>
#include <cmath>

#include "backend/reference/elements.h"
#include "backend/reference/kernels.h"

namespace snug::reference {
namespace {

void global_norm(const KernelCall& call) {
  double sum = 0.0;
  for (std::size_t g = 0; g < call.inputs.size(); ++g) {
    const Elements gradient = input(call, g);
    for (std::int64_t i = 0; i < gradient.size(); ++i) sum += gradient[i] * gradient[i];
  }
  const double norm = std::sqrt(sum);
  const double limit = call.attributes.real("max_norm");
  output(call, 0).set(0, norm);
  output(call, 1).set(0, limit > 0.0 ? std::min(1.0, limit / (norm + 1e-6)) : 1.0);
  output(call, 2).set(0, std::isfinite(norm) ? 1.0 : 0.0);
}

void unscale_norm(const KernelCall& call) {
  const double inverse = input(call, 1)[0];
  const double norm = input(call, 0)[0] * inverse;
  const double limit = call.attributes.real("max_norm");
  output(call, 0).set(0, norm);
  output(call, 1).set(0, inverse * (limit > 0.0 ? std::min(1.0, limit / (norm + 1e-6)) : 1.0));
}

void apply_gate(const KernelCall& call) {
  const bool open = input(call, 0).integer(0) != 0 && input(call, 1).integer(0) != 0;
  output(call, 0).set(0, open ? 1.0 : 0.0);
}

constexpr Kernel kKernels[] = {
    {.name = "reference_global_norm", .op = Op::global_norm, .run = global_norm},
    {.name = "reference_unscale_norm", .op = Op::unscale_norm, .run = unscale_norm},
    {.name = "reference_apply_gate", .op = Op::apply_gate, .run = apply_gate},
};

}  // namespace

std::span<const Kernel> steps() { return kKernels; }

}  // namespace snug::reference
