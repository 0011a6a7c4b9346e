// Elementwise ops and reductions.

#include <cmath>
#include <limits>

#include "backend/reference/elements.h"
#include "backend/reference/kernels.h"

namespace snug::reference {
namespace {

using Binary = double (*)(double, double);
using Unary = double (*)(double, const Attributes&);

template <Binary function>
void run_binary(const KernelCall& call) {
  const Elements a = input(call, 0);
  const Elements b = input(call, 1);
  const Elements y = output(call, 0);
  for (std::int64_t i = 0; i < y.size(); ++i) y.set(i, function(a[i], b[i]));
}

template <Unary function>
void run_unary(const KernelCall& call) {
  const Elements a = input(call, 0);
  const Elements y = output(call, 0);
  for (std::int64_t i = 0; i < y.size(); ++i) y.set(i, function(a[i], call.attributes));
}

double add(double a, double b) { return a + b; }
double sub(double a, double b) { return a - b; }
double mul(double a, double b) { return a * b; }
double div(double a, double b) { return a / b; }

double scale(double a, const Attributes& attributes) { return attributes.real("factor") * a; }
double shift(double a, const Attributes& attributes) { return a + attributes.real("offset"); }
double exp(double a, const Attributes&) { return std::exp(a); }
double log(double a, const Attributes&) { return std::log(a); }
double rsqrt(double a, const Attributes&) { return 1.0 / std::sqrt(a); }
double sigmoid(double a, const Attributes&) { return 1.0 / (1.0 + std::exp(-a)); }
double same(double a, const Attributes&) { return a; }

double larger(double a, double b) { return a > b || std::isnan(a) ? a : b; }

template <Binary combine>
void reduce(const KernelCall& call, double start) {
  const Elements a = input(call, 0);
  const Elements y = output(call, 0);
  const auto axis = static_cast<int>(call.attributes.integer("axis"));
  const Shape& shape = a.shape();
  const int at = axis < 0 ? axis + shape.rank() : axis;
  std::int64_t inner = 1;
  for (int i = at + 1; i < shape.rank(); ++i) inner *= shape[i];
  for (std::int64_t i = 0; i < y.size(); ++i) {
    double sum = start;
    for (std::int64_t j = 0; j < shape[at]; ++j) {
      sum = combine(sum, a[(i / inner * shape[at] + j) * inner + i % inner]);
    }
    y.set(i, sum);
  }
}

void reduce_sum(const KernelCall& call) { reduce<add>(call, 0.0); }
void reduce_max(const KernelCall& call) {
  reduce<larger>(call, -std::numeric_limits<double>::infinity());
}

constexpr Kernel kKernels[] = {
    {.name = "reference_add", .op = Op::add, .run = run_binary<add>},
    {.name = "reference_sub", .op = Op::sub, .run = run_binary<sub>},
    {.name = "reference_mul", .op = Op::mul, .run = run_binary<mul>},
    {.name = "reference_div", .op = Op::div, .run = run_binary<div>},
    {.name = "reference_scale", .op = Op::scale, .run = run_unary<scale>},
    {.name = "reference_shift", .op = Op::shift, .run = run_unary<shift>},
    {.name = "reference_exp", .op = Op::exp, .run = run_unary<exp>},
    {.name = "reference_log", .op = Op::log, .run = run_unary<log>},
    {.name = "reference_rsqrt", .op = Op::rsqrt, .run = run_unary<rsqrt>},
    {.name = "reference_sigmoid", .op = Op::sigmoid, .run = run_unary<sigmoid>},
    {.name = "reference_reduce_sum", .op = Op::reduce_sum, .run = reduce_sum},
    {.name = "reference_reduce_max", .op = Op::reduce_max, .run = reduce_max},
    {.name = "reference_cast", .op = Op::cast, .run = run_unary<same>},
};

}  // namespace

std::span<const Kernel> arithmetic() { return kKernels; }

}  // namespace snug::reference
