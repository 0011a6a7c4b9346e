// Adafactor (Shazeer and Stern, arXiv 1804.04235) as transformers and as torch write it, in double.

#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/reference/elements.h"
#include "backend/reference/kernels.h"

namespace snug::reference {
namespace {

std::int64_t elements_of(const KernelQuery& query) {
  return query.outputs[0].type.shape.elements();
}

/// The gradient's update by its root mean square, an element each.
std::int64_t grant(const KernelQuery& query) {
  return elements_of(query) * static_cast<std::int64_t>(sizeof(double));
}

/// What a step of Adafactor needs to know, and the new weights from the scaled gradient.
class Adafactor {
 public:
  explicit Adafactor(const KernelCall& call)
      : torch_(call.attributes.text("form") == "torch"),
        eps1_(call.attributes.real("eps1")),
        lr_(input(call, kUpdateRate)[0]),
        weight_(output(call, 0)),
        gradient_(input(call, kUpdateGradient)),
        master_(input(call, kUpdateMaster).present() ? output(call, call.outputs.size() - 1)
                                                     : input(call, kUpdateMaster)),
        random_(drawn(call, kUpdateDraw)) {
    const Elements clip = input(call, kUpdateClip);
    if (clip.present()) clip_ = clip[0];
  }

  std::int64_t size() const { return weight_.size(); }
  double gradient(std::int64_t i) const { return gradient_[i] * clip_; }
  /// What the means are taken of.
  double square(std::int64_t i) const { return gradient(i) * gradient(i) + (torch_ ? 0.0 : eps1_); }
  double least_mean() const { return torch_ ? eps1_ : 0.0; }
  double least_square() const { return torch_ ? eps1_ * eps1_ : 0.0; }

  /// u: gradient / sqrt(its expected square).
  void apply(const KernelCall& call, const double* u, double rate) const {
    double sum = 0;
    double weights = 0;
    for (std::int64_t i = 0; i < size(); ++i) {
      sum += u[i] * u[i];
      weights += value(i) * value(i);
    }
    const auto count = static_cast<double>(size());
    const double limit = call.attributes.real("clip_threshold");
    double step = rate;
    if (call.attributes.integer("scale_parameter") != 0) {
      step *= std::max(call.attributes.real("eps2"), std::sqrt(weights / count));
    }
    const double clipped = step / std::max(1.0, std::sqrt(sum / count) / limit);
    const double decay = 1.0 - (torch_ ? lr_ : step) * call.attributes.real("weight_decay");
    for (std::int64_t i = 0; i < size(); ++i) set(i, value(i) * decay - clipped * u[i]);
  }

 private:
  double value(std::int64_t i) const { return master_.present() ? master_[i] : weight_[i]; }
  void set(std::int64_t i, double value) const {
    if (master_.present()) {
      master_.set(i, value);
      weight_.set(i, value);
    } else if (random_ && weight_.dtype() == DType::bf16) {
      weight_.set_stochastic(i, value, random_->bits16(static_cast<std::uint64_t>(i)));
    } else {
      weight_.set(i, value);
    }
  }

  bool torch_;
  double eps1_;
  double lr_;
  Elements weight_;
  Elements gradient_;
  Elements master_;
  std::optional<RandomStream> random_;
  double clip_ = 1.0;
};

bool skipped(const KernelCall& call) {
  const Elements apply = input(call, kUpdateApply);
  return apply.present() && apply.integer(0) == 0;
}

void adafactor(const KernelCall& call) {
  if (skipped(call)) return;
  const Adafactor step(call);
  const Elements rows = output(call, 1);
  const Elements columns = output(call, 2);
  const double rate = input(call, kUpdateStates + 2)[0];
  const double rest = input(call, kUpdateStates + 3)[0];
  const std::int64_t width = columns.size();
  double mean = 0;
  for (std::int64_t r = 0; r < rows.size(); ++r) {
    double sum = 0;
    for (std::int64_t c = 0; c < width; ++c) sum += step.square(r * width + c);
    rows.set(r, (1.0 - rest) * rows[r] + rest * (sum / static_cast<double>(width)));
    mean += rows[r] / static_cast<double>(rows.size());
  }
  for (std::int64_t c = 0; c < width; ++c) {
    double sum = 0;
    for (std::int64_t r = 0; r < rows.size(); ++r) sum += step.square(r * width + c);
    columns.set(c, (1.0 - rest) * columns[c] + rest * (sum / static_cast<double>(rows.size())));
  }
  mean = std::max(mean, step.least_mean());
  double* u = scratch(call);
  for (std::int64_t i = 0; i < step.size(); ++i) {
    const double square =
        std::max(rows[i / width] / mean * columns[i % width], step.least_square());
    u[i] = step.gradient(i) / std::sqrt(square);
  }
  step.apply(call, u, rate);
}

void adafactor_vector(const KernelCall& call) {
  if (skipped(call)) return;
  const Adafactor step(call);
  const Elements squares = output(call, 1);
  const double rate = input(call, kUpdateStates + 1)[0];
  const double rest = input(call, kUpdateStates + 2)[0];
  double* u = scratch(call);
  for (std::int64_t i = 0; i < step.size(); ++i) {
    squares.set(i, (1.0 - rest) * squares[i] + rest * step.square(i));
    u[i] = step.gradient(i) / std::sqrt(std::max(squares[i], step.least_square()));
  }
  step.apply(call, u, rate);
}

constexpr Kernel kKernels[] = {
    {.name = "reference_adafactor", .op = Op::adafactor, .grant = grant, .run = adafactor},
    {.name = "reference_adafactor_vector",
     .op = Op::adafactor_vector,
     .grant = grant,
     .run = adafactor_vector},
};

}  // namespace

std::span<const Kernel> adafactors() { return kKernels; }

}  // namespace snug::reference
