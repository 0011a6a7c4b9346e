// The output head with its cross-entropy.

#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/reference/elements.h"
#include "backend/reference/kernels.h"

namespace snug::reference {
namespace {

struct Head {
  explicit Head(const KernelCall& call, bool adapted = false)
      : x(input(call, 0)),
        w(input(call, 1)),
        labels(input(call, 2)),
        low(adapted ? input(call, 3) : Elements(Operand{})),
        up(adapted ? input(call, 4) : Elements(Operand{})),
        rank(adapted ? low.shape()[1] : 0),
        tokens(x.shape()[0]),
        width(x.shape()[1]),
        classes(w.shape()[0]) {}

  double logit(std::int64_t t, std::int64_t c) const {
    double sum = 0.0;
    for (std::int64_t j = 0; j < width; ++j) sum += x[t * width + j] * w[c * width + j];
    for (std::int64_t j = 0; j < rank; ++j) sum += low[t * rank + j] * up[c * rank + j];
    return sum;
  }

  /// The label of row t; negative: ignored.
  std::int64_t label(std::int64_t t) const {
    const std::int64_t label = labels.integer(t);
    check(label < classes, "label {} at row {} of a head of {} classes", label, t, classes);
    return label;
  }

  /// Fills `z` with row t's logits and returns their log-sum-exp.
  double log_sum_exp(std::int64_t t, double* z) const {
    for (std::int64_t c = 0; c < classes; ++c) z[c] = logit(t, c);
    const double peak = *std::max_element(z, z + classes);
    double sum = 0.0;
    for (std::int64_t c = 0; c < classes; ++c) sum += std::exp(z[c] - peak);
    return peak + std::log(sum);
  }

  Elements x, w, labels;
  Elements low, up;  ///< of an adapter
  std::int64_t rank, tokens, width, classes;
};

std::int64_t grant_row(const KernelQuery& query) { return 8 * query.inputs[1].type.shape[0]; }

void sum_losses(const KernelCall& call, const Head& head) {
  double* z = scratch(call);
  double loss = 0.0;
  for (std::int64_t t = 0; t < head.tokens; ++t) {
    const std::int64_t label = head.label(t);
    if (label >= 0) loss += head.log_sum_exp(t, z) - z[label];
  }
  output(call, 0).set(0, loss);
}

void head_loss(const KernelCall& call) { sum_losses(call, Head(call)); }
void adapted_head_loss(const KernelCall& call) { sum_losses(call, Head(call, true)); }

/// A row of logits, and for each token its log-sum-exp and one class's gradient.
std::int64_t grant_row_and_columns(const KernelQuery& query) {
  return grant_row(query) + std::int64_t{2} * 8 * query.inputs[0].type.shape[0];
}

/// Turns row t's logits into gradients, weight (softmax - one_hot), and dx; returns the row's loss.
double row_gradient(const Head& head, std::int64_t t, double weight, double lse, double* z,
                    const Elements& dx) {
  const std::int64_t label = head.label(t);
  const double loss = lse - z[label];
  for (std::int64_t c = 0; c < head.classes; ++c) {
    z[c] = weight * (std::exp(z[c] - lse) - (c == label ? 1.0 : 0.0));
  }
  for (std::int64_t j = 0; j < head.width; ++j) {
    double sum = 0.0;
    for (std::int64_t c = 0; c < head.classes; ++c) sum += z[c] * head.w[c * head.width + j];
    dx.set(t * head.width + j, sum);
  }
  return loss;
}

/// weight (softmax - one_hot) of every token for class c.
void class_gradient(const Head& head, std::int64_t c, double weight, const double* lse,
                    double* dz) {
  for (std::int64_t t = 0; t < head.tokens; ++t) {
    const std::int64_t label = head.label(t);
    const double softmax = label < 0 ? 0.0 : std::exp(head.logit(t, c) - lse[t]);
    dz[t] = weight * (softmax - (c == label ? 1.0 : 0.0));
  }
}

void head_loss_grad(const KernelCall& call) {
  const Head head(call);
  const double weight = input(call, 3)[0];
  const Elements dx = output(call, 1);
  double* z = scratch(call);
  double* lse = z + head.classes;
  double* dz = lse + head.tokens;
  double loss = 0.0;
  for (std::int64_t t = 0; t < head.tokens; ++t) {
    if (head.label(t) >= 0) {
      lse[t] = head.log_sum_exp(t, z);
      loss += row_gradient(head, t, weight, lse[t], z, dx);
    } else {
      for (std::int64_t j = 0; j < head.width; ++j) dx.set(t * head.width + j, 0.0);
    }
  }
  output(call, 0).set(0, loss);
  if (call.outputs.size() < 3 || call.outputs[2].data == nullptr) return;
  const Accumulated dw(call, call.outputs[2], 4);
  for (std::int64_t c = 0; c < head.classes; ++c) {
    class_gradient(head, c, weight, lse, dz);
    for (std::int64_t j = 0; j < head.width; ++j) {
      double sum = 0.0;
      for (std::int64_t t = 0; t < head.tokens; ++t) sum += dz[t] * head.x[t * head.width + j];
      dw.set(c * head.width + j, sum);
    }
  }
}

void adapted_head_loss_grad(const KernelCall& call) {
  const Head head(call, true);
  const double weight = input(call, 5)[0];
  const Elements dx = output(call, 1);
  const Elements dlow = output(call, 2);
  const Accumulated dup(call, call.outputs[3], 6);
  double* z = scratch(call);
  double* lse = z + head.classes;
  double* dz = lse + head.tokens;
  double loss = 0.0;
  for (std::int64_t t = 0; t < head.tokens; ++t) {
    if (head.label(t) >= 0) {
      lse[t] = head.log_sum_exp(t, z);
      loss += row_gradient(head, t, weight, lse[t], z, dx);
    } else {
      std::fill(z, z + head.classes, 0.0);
      for (std::int64_t j = 0; j < head.width; ++j) dx.set(t * head.width + j, 0.0);
    }
    for (std::int64_t j = 0; j < head.rank; ++j) {
      double sum = 0.0;
      for (std::int64_t c = 0; c < head.classes; ++c) sum += z[c] * head.up[c * head.rank + j];
      dlow.set(t * head.rank + j, sum);
    }
  }
  output(call, 0).set(0, loss);
  for (std::int64_t c = 0; c < head.classes; ++c) {
    class_gradient(head, c, weight, lse, dz);
    for (std::int64_t j = 0; j < head.rank; ++j) {
      double sum = 0.0;
      for (std::int64_t t = 0; t < head.tokens; ++t) sum += dz[t] * head.low[t * head.rank + j];
      dup.set(c * head.rank + j, sum);
    }
  }
}

constexpr Kernel kKernels[] = {
    {.name = "reference_head_loss", .op = Op::head_loss, .grant = grant_row, .run = head_loss},
    {.name = "reference_head_loss_grad",
     .op = Op::head_loss_grad,
     .grant = grant_row_and_columns,
     .run = head_loss_grad},
    {.name = "reference_adapted_head_loss",
     .op = Op::adapted_head_loss,
     .grant = grant_row,
     .run = adapted_head_loss},
    {.name = "reference_adapted_head_loss_grad",
     .op = Op::adapted_head_loss_grad,
     .grant = grant_row_and_columns,
     .run = adapted_head_loss_grad},
};

}  // namespace

std::span<const Kernel> losses() { return kKernels; }

}  // namespace snug::reference
