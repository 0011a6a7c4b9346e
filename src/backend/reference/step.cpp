// Ops on whole steps: the gradient norm, the gate and AdamW.

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

enum : std::size_t { kMaster = 4, kRate, kCorrection1, kCorrection2, kClip, kApply, kDraw };

/// Rounded to bf16 with random bits where there are any, else to nearest.
void store(const Elements& to, std::int64_t i, double value,
           const std::optional<RandomStream>& random, std::uint32_t part) {
  if (!random || to.dtype() != DType::bf16) {
    to.set(i, value);
    return;
  }
  RandomStream stream = *random;
  stream.part += part;
  to.set_stochastic(i, value, stream.bits16(static_cast<std::uint64_t>(i)));
}

/// Every operation is rounded to T: f32 gives the bits that all back ends give.
template <class T>
void update(const KernelCall& call) {
  const Elements gradient = input(call, 1);
  const Elements weight = output(call, 0);
  const Elements m_state = output(call, 1);
  const Elements v_state = output(call, 2);
  const Elements master = input(call, kMaster);
  const Elements clip = input(call, kClip);
  const auto random = drawn(call, kDraw);
  const double rate = input(call, kRate)[0];
  const double beta1 = call.attributes.real("beta1");
  const double beta2 = call.attributes.real("beta2");
  const T decay = static_cast<T>(
      1.0 - rate * static_cast<double>(static_cast<T>(call.attributes.real("weight_decay"))));
  const T step = static_cast<T>(rate / input(call, kCorrection1)[0]);
  const T inverse = static_cast<T>(1.0 / std::sqrt(input(call, kCorrection2)[0]));
  const T eps = static_cast<T>(call.attributes.real("eps"));
  const T rest1 = static_cast<T>(1.0 - beta1);
  const T rest2 = static_cast<T>(1.0 - beta2);
  const T keep2 = static_cast<T>(beta2);
  const T factor = clip.present() ? static_cast<T>(clip[0]) : T{1};
  for (std::int64_t i = 0; i < weight.size(); ++i) {
    const T g = static_cast<T>(gradient[i]) * factor;
    T p = static_cast<T>(master.present() ? master[i] : weight[i]) * decay;
    T m = static_cast<T>(m_state[i]);
    m = m + rest1 * (g - m);
    const T v = keep2 * static_cast<T>(v_state[i]) + rest2 * (g * g);
    p = p - step * (m / (std::sqrt(v) * inverse + eps));
    if (master.present()) {
      output(call, 3).set(i, p);
      weight.set(i, p);
    } else {
      store(weight, i, p, random, 0);
    }
    store(m_state, i, m, random, 1);
    store(v_state, i, v, random, 2);
  }
}

void adamw(const KernelCall& call) {
  const Elements apply = input(call, kApply);
  if (apply.present() && apply.integer(0) == 0) return;
  if (call.outputs[0].layout.type.dtype == DType::f64) {
    update<double>(call);
  } else {
    update<float>(call);
  }
}

constexpr Kernel kKernels[] = {
    {.name = "reference_global_norm", .op = Op::global_norm, .run = global_norm},
    {.name = "reference_unscale_norm", .op = Op::unscale_norm, .run = unscale_norm},
    {.name = "reference_apply_gate", .op = Op::apply_gate, .run = apply_gate},
    {.name = "reference_adamw", .op = Op::adamw, .run = adamw},
};

}  // namespace

std::span<const Kernel> steps() { return kKernels; }

}  // namespace snug::reference
