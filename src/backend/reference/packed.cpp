// Packed weight matrices: dequantised element by element.

#include "backend/packed_operands.h"
#include "backend/reference/elements.h"
#include "backend/reference/kernels.h"

namespace snug::reference {
namespace {

/// An element as it is when stored in `type`.
double rounded(const PackedMatrix& matrix, std::int64_t row, std::int64_t column, DType type) {
  const float value = matrix.element(row, column);
  switch (type) {
    case DType::bf16:
      return static_cast<double>(static_cast<float>(BFloat16(value)));
    case DType::f16:
      return static_cast<double>(static_cast<float>(Float16(value)));
    default:
      return static_cast<double>(value);
  }
}

void dequantize(const KernelCall& call) {
  const Elements y = output(call, 0);
  const std::int64_t columns = y.shape()[1];
  const PackedMatrix w = packed_matrix(call, 0, y.shape()[0], columns);
  for (std::int64_t i = 0; i < y.size(); ++i) {
    y.set(i, static_cast<double>(w.element(i / columns, i % columns)));
  }
}

void packed_linear(const KernelCall& call) {
  const Elements x = input(call, 0);
  const Elements bias = input(call, 5);
  const Accumulated y(call, call.outputs[0], 6);
  const std::int64_t inner = x.shape()[1];
  const std::int64_t columns = call.attributes.integer("rows");
  const PackedMatrix w = packed_matrix(call, 1, columns, inner);
  for (std::int64_t t = 0; t < x.shape()[0]; ++t) {
    for (std::int64_t n = 0; n < columns; ++n) {
      double sum = bias.present() ? bias[n] : 0.0;
      for (std::int64_t k = 0; k < inner; ++k) {
        sum += x[t * inner + k] * rounded(w, n, k, x.dtype());
      }
      y.set(t * columns + n, sum);
    }
  }
}

void packed_linear_dx(const KernelCall& call) {
  const Elements dy = input(call, 0);
  const Accumulated dx(call, call.outputs[0], 5);
  const std::int64_t inner = dy.shape()[1];
  const std::int64_t columns = call.attributes.integer("columns");
  const PackedMatrix w = packed_matrix(call, 1, inner, columns);
  for (std::int64_t t = 0; t < dy.shape()[0]; ++t) {
    for (std::int64_t k = 0; k < columns; ++k) {
      double sum = 0.0;
      for (std::int64_t n = 0; n < inner; ++n) {
        sum += dy[t * inner + n] * rounded(w, n, k, dy.dtype());
      }
      dx.set(t * columns + k, sum);
    }
  }
}

constexpr Kernel kKernels[] = {
    {.name = "reference_dequantize", .op = Op::dequantize, .run = dequantize},
    {.name = "reference_packed_linear", .op = Op::packed_linear, .run = packed_linear},
    {.name = "reference_packed_linear_dx", .op = Op::packed_linear_dx, .run = packed_linear_dx},
};

}  // namespace

std::span<const Kernel> packed_products() { return kKernels; }

}  // namespace snug::reference
