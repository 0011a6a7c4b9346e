// DoRA's column scales and norms, and dropout.

#include <cmath>

#include "backend/reference/elements.h"
#include "backend/reference/kernels.h"
#include "ir/op.h"

namespace snug::reference {
namespace {

void scale_columns(const KernelCall& call) {
  const Elements x = input(call, 0);
  const Elements m = input(call, 1);
  const Elements n = input(call, 2);
  const Elements bias = input(call, 3);
  const Elements y = output(call, 0);
  const std::int64_t columns = x.shape()[1];
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const std::int64_t c = i % columns;
    y.set(i, x[i] * (m[c] / n[c]) + (bias.present() ? bias[c] : 0.0));
  }
}

void scale_columns_dw(const KernelCall& call) {
  const Elements dy = input(call, 0);
  const Elements x = input(call, 1);
  const Elements n = input(call, 2);
  const Accumulated dm(call, call.outputs[0], 3);
  const std::int64_t columns = x.shape()[1];
  for (std::int64_t c = 0; c < columns; ++c) {
    double sum = 0.0;
    for (std::int64_t i = c; i < x.size(); i += columns) sum += dy[i] * x[i];
    dm.set(c, sum / n[c]);
  }
}

void dora_norm(const KernelCall& call) {
  const Elements w = input(call, 0);
  const Elements a = input(call, 1);
  const Elements b = input(call, 2);
  const Elements y = output(call, 0);
  const double scale = call.attributes.real("scale");
  const std::int64_t columns = w.shape()[1];
  const std::int64_t rank = a.shape()[0];
  for (std::int64_t n = 0; n < w.shape()[0]; ++n) {
    double squares = 0.0;
    for (std::int64_t k = 0; k < columns; ++k) {
      double delta = 0.0;
      for (std::int64_t r = 0; r < rank; ++r) delta += b[n * rank + r] * a[r * columns + k];
      const double sum = w[n * columns + k] + scale * delta;
      squares += sum * sum;
    }
    y.set(n, std::sqrt(squares));
  }
}

void dropout(const KernelCall& call) {
  const Elements x = input(call, 0);
  const Elements rows = input(call, 2);
  const Elements positions = input(call, 3);
  const Elements y = output(call, 0);
  const std::int64_t draw = input(call, 1).integer(0);
  const std::uint32_t threshold = dropout_threshold(call.attributes);
  const double factor = 65536.0 / (65536.0 - threshold);
  const std::int64_t width = x.shape()[1];
  for (std::int64_t t = 0; t < x.shape()[0]; ++t) {
    const RandomStream stream =
        dropout_stream(call.attributes, draw, static_cast<std::int32_t>(rows.integer(t)));
    for (std::int64_t f = 0; f < width; ++f) {
      const auto element = static_cast<std::uint64_t>(positions.integer(t) * width + f);
      const bool dropped = stream.bits16(element) < threshold;
      y.set(t * width + f, dropped ? 0.0 : x[t * width + f] * factor);
    }
  }
}

constexpr Kernel kKernels[] = {
    {.name = "reference_scale_columns", .op = Op::scale_columns, .run = scale_columns},
    {.name = "reference_scale_columns_dw", .op = Op::scale_columns_dw, .run = scale_columns_dw},
    {.name = "reference_dora_norm", .op = Op::dora_norm, .run = dora_norm},
    {.name = "reference_dropout", .op = Op::dropout, .run = dropout},
};

}  // namespace

std::span<const Kernel> adapters() { return kKernels; }

}  // namespace snug::reference
