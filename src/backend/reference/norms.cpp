// RMS norm, the gated activation and the rotary embedding.

#include <cmath>

#include "backend/reference/elements.h"
#include "backend/reference/kernels.h"

namespace snug::reference {
namespace {

/// 1 / sqrt(mean(x^2) + eps) of row `row`.
double inverse_rms(const Elements& x, std::int64_t row, double eps) {
  const std::int64_t width = x.shape()[-1];
  double sum = 0.0;
  for (std::int64_t j = 0; j < width; ++j) sum += x[row * width + j] * x[row * width + j];
  return 1.0 / std::sqrt(sum / static_cast<double>(width) + eps);
}

void rms_norm(const KernelCall& call) {
  const Elements x = input(call, 0);
  const Elements w = input(call, 1);
  const Elements y = output(call, 0);
  const std::int64_t width = x.shape()[-1];
  for (std::int64_t row = 0; row < x.shape().rows(); ++row) {
    const double r = inverse_rms(x, row, call.attributes.real("eps"));
    for (std::int64_t j = 0; j < width; ++j) {
      y.set(row * width + j, x[row * width + j] * r * w[j]);
    }
  }
}

/// r (g - x r^2 mean(g x)), g = dy w.
void rms_norm_dx(const KernelCall& call) {
  const Elements dy = input(call, 0);
  const Elements x = input(call, 1);
  const Elements w = input(call, 2);
  const Elements dx = output(call, 0);
  const std::int64_t width = x.shape()[-1];
  for (std::int64_t row = 0; row < x.shape().rows(); ++row) {
    const double r = inverse_rms(x, row, call.attributes.real("eps"));
    double dot = 0.0;
    for (std::int64_t j = 0; j < width; ++j) {
      dot += dy[row * width + j] * w[j] * x[row * width + j];
    }
    dot *= r * r / static_cast<double>(width);
    for (std::int64_t j = 0; j < width; ++j) {
      const std::int64_t i = row * width + j;
      dx.set(i, r * (dy[i] * w[j] - x[i] * dot));
    }
  }
}

std::int64_t grant_rows(const KernelQuery& query) { return 8 * query.inputs[1].type.shape.rows(); }

void rms_norm_dw(const KernelCall& call) {
  const Elements dy = input(call, 0);
  const Elements x = input(call, 1);
  const Accumulated dw(call, call.outputs[0], 2);
  const std::int64_t width = x.shape()[-1];
  const std::int64_t rows = x.shape().rows();
  double* r = scratch(call);
  for (std::int64_t row = 0; row < rows; ++row) {
    r[row] = inverse_rms(x, row, call.attributes.real("eps"));
  }
  for (std::int64_t j = 0; j < width; ++j) {
    double sum = 0.0;
    for (std::int64_t row = 0; row < rows; ++row) {
      sum += dy[row * width + j] * x[row * width + j] * r[row];
    }
    dw.set(j, sum);
  }
}

double sigmoid(double z) { return 1.0 / (1.0 + std::exp(-z)); }

void silu_mul(const KernelCall& call) {
  const Elements gate = input(call, 0);
  const Elements up = input(call, 1);
  const Elements y = output(call, 0);
  for (std::int64_t i = 0; i < y.size(); ++i) y.set(i, gate[i] * sigmoid(gate[i]) * up[i]);
}

void silu_mul_grad(const KernelCall& call) {
  const Elements gate = input(call, 0);
  const Elements up = input(call, 1);
  const Elements dy = input(call, 2);
  const Elements dgate = output(call, 0);
  const Elements dup = output(call, 1);
  for (std::int64_t i = 0; i < dy.size(); ++i) {
    const double z = gate[i];
    const double u = up[i];
    const double s = sigmoid(z);
    dgate.set(i, dy[i] * u * s * (1.0 + z * (1.0 - s)));
    dup.set(i, dy[i] * z * s);
  }
}

/// Element j of the first half turns with element j of the second.
void rope(const KernelCall& call) {
  const Elements x = input(call, 0);
  const Elements cos = input(call, 1);
  const Elements sin = input(call, 2);
  const Elements positions = input(call, 3);
  const Elements y = output(call, 0);
  const double sign = call.attributes.integer_or("inverse", 0) != 0 ? -1.0 : 1.0;
  const std::int64_t heads = x.shape()[1];
  const std::int64_t half = x.shape()[2] / 2;
  for (std::int64_t row = 0; row < x.shape()[0] * heads; ++row) {
    const std::int64_t position = positions.integer(row / heads);
    check(position >= 0 && position < cos.shape()[0], "position {} of a rope table of {}", position,
          cos.shape()[0]);
    for (std::int64_t j = 0; j < half; ++j) {
      const std::int64_t low = row * 2 * half + j;
      const std::int64_t high = low + half;
      const double c = cos[position * half + j];
      const double s = sign * sin[position * half + j];
      const double a = x[low];
      const double b = x[high];
      y.set(low, a * c - b * s);
      y.set(high, b * c + a * s);
    }
  }
}

constexpr Kernel kKernels[] = {
    {.name = "reference_rms_norm", .op = Op::rms_norm, .run = rms_norm},
    {.name = "reference_rms_norm_dx", .op = Op::rms_norm_dx, .run = rms_norm_dx},
    {.name = "reference_rms_norm_dw",
     .op = Op::rms_norm_dw,
     .grant = grant_rows,
     .run = rms_norm_dw},
    {.name = "reference_silu_mul", .op = Op::silu_mul, .run = silu_mul},
    {.name = "reference_silu_mul_grad", .op = Op::silu_mul_grad, .run = silu_mul_grad},
    {.name = "reference_rope", .op = Op::rope, .run = rope},
};

}  // namespace

std::span<const Kernel> norms() { return kKernels; }

}  // namespace snug::reference
