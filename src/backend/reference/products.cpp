// Matrix products and embeddings.

#include "backend/reference/elements.h"
#include "backend/reference/kernels.h"

namespace snug::reference {
namespace {

void matmul(const KernelCall& call) {
  const Elements a = input(call, 0);
  const Elements b = input(call, 1);
  const Elements y = output(call, 0);
  const bool turn_a = call.attributes.integer_or("transpose_a", 0) != 0;
  const bool turn_b = call.attributes.integer_or("transpose_b", 0) != 0;
  const std::int64_t rows = y.shape()[-2];
  const std::int64_t columns = y.shape()[-1];
  const std::int64_t inner = a.shape()[turn_a ? -2 : -1];
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const std::int64_t batch = i / (rows * columns);
    const std::int64_t row = i / columns % rows;
    const std::int64_t column = i % columns;
    double sum = 0.0;
    for (std::int64_t k = 0; k < inner; ++k) {
      const std::int64_t at_a = turn_a ? k * rows + row : row * inner + k;
      const std::int64_t at_b = turn_b ? column * inner + k : k * columns + column;
      sum += a[batch * rows * inner + at_a] * b[batch * inner * columns + at_b];
    }
    y.set(i, sum);
  }
}

void linear(const KernelCall& call) {
  const Elements x = input(call, 0);
  const Elements w = input(call, 1);
  const Elements bias = input(call, 2);
  const Accumulated y(call, call.outputs[0], 3);
  const std::int64_t inner = x.shape()[1];
  const std::int64_t columns = w.shape()[0];
  for (std::int64_t t = 0; t < x.shape()[0]; ++t) {
    for (std::int64_t n = 0; n < columns; ++n) {
      double sum = bias.present() ? bias[n] : 0.0;
      for (std::int64_t k = 0; k < inner; ++k) sum += x[t * inner + k] * w[n * inner + k];
      y.set(t * columns + n, sum);
    }
  }
}

void linear_dx(const KernelCall& call) {
  const Elements dy = input(call, 0);
  const Elements w = input(call, 1);
  const Accumulated dx(call, call.outputs[0], 2);
  const std::int64_t inner = w.shape()[0];
  const std::int64_t columns = w.shape()[1];
  for (std::int64_t t = 0; t < dy.shape()[0]; ++t) {
    for (std::int64_t k = 0; k < columns; ++k) {
      double sum = 0.0;
      for (std::int64_t n = 0; n < inner; ++n) sum += dy[t * inner + n] * w[n * columns + k];
      dx.set(t * columns + k, sum);
    }
  }
}

void linear_dw(const KernelCall& call) {
  const Elements dy = input(call, 0);
  const Elements x = input(call, 1);
  const Accumulated dw(call, call.outputs[0], 2);
  const std::int64_t rows = dy.shape()[1];
  const std::int64_t columns = x.shape()[1];
  for (std::int64_t n = 0; n < rows; ++n) {
    for (std::int64_t k = 0; k < columns; ++k) {
      double sum = 0.0;
      for (std::int64_t t = 0; t < x.shape()[0]; ++t) sum += dy[t * rows + n] * x[t * columns + k];
      dw.set(n * columns + k, sum);
    }
  }
}

void column_sum(const KernelCall& call) {
  const Elements dy = input(call, 0);
  const Accumulated y(call, call.outputs[0], 1);
  const std::int64_t columns = dy.shape()[1];
  for (std::int64_t n = 0; n < columns; ++n) {
    double sum = 0.0;
    for (std::int64_t t = 0; t < dy.shape()[0]; ++t) sum += dy[t * columns + n];
    y.set(n, sum);
  }
}

std::int64_t checked_id(const Elements& ids, std::int64_t t, std::int64_t rows) {
  const std::int64_t id = ids.integer(t);
  check(id >= 0 && id < rows, "token id {} at row {} of an embedding of {} rows", id, t, rows);
  return id;
}

void embedding(const KernelCall& call) {
  const Elements table = input(call, 0);
  const Elements ids = input(call, 1);
  const Elements y = output(call, 0);
  const std::int64_t width = table.shape()[1];
  for (std::int64_t t = 0; t < ids.size(); ++t) {
    const std::int64_t id = checked_id(ids, t, table.shape()[0]);
    for (std::int64_t j = 0; j < width; ++j) y.set(t * width + j, table[id * width + j]);
  }
}

/// A row of the table at a time, so that each element is rounded once. With an accumulator, rows
/// that no token names stay as they are.
void embedding_dw(const KernelCall& call) {
  const Elements dy = input(call, 0);
  const Elements ids = input(call, 1);
  const Elements y = output(call, 0);
  const Accumulated dw(call, call.outputs[0], 2);
  const std::int64_t width = y.shape()[1];
  if (!input(call, 2).present()) {
    for (std::int64_t i = 0; i < y.size(); ++i) y.set(i, 0.0);
  }
  for (std::int64_t t = 0; t < ids.size(); ++t) {
    const std::int64_t id = checked_id(ids, t, y.shape()[0]);
    bool first = true;
    for (std::int64_t s = 0; s < t && first; ++s) first = ids.integer(s) != id;
    if (!first) continue;
    for (std::int64_t j = 0; j < width; ++j) {
      double sum = 0.0;
      for (std::int64_t s = t; s < ids.size(); ++s) {
        if (ids.integer(s) == id) sum += dy[s * width + j];
      }
      dw.set(id * width + j, sum);
    }
  }
}

constexpr Kernel kKernels[] = {
    {.name = "reference_matmul", .op = Op::matmul, .run = matmul},
    {.name = "reference_linear", .op = Op::linear, .run = linear},
    {.name = "reference_linear_dx", .op = Op::linear_dx, .run = linear_dx},
    {.name = "reference_linear_dw", .op = Op::linear_dw, .run = linear_dw},
    {.name = "reference_column_sum", .op = Op::column_sum, .run = column_sum},
    {.name = "reference_embedding", .op = Op::embedding, .run = embedding},
    {.name = "reference_embedding_dw", .op = Op::embedding_dw, .run = embedding_dw},
};

}  // namespace

std::span<const Kernel> products() { return kKernels; }

}  // namespace snug::reference
