// Updates, each in the order of operations that all back ends keep. Every operation is rounded to
// T: f32 gives the bits that all back ends give.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "backend/reference/elements.h"
#include "backend/reference/kernels.h"
#include "core/dynamic_map.h"

namespace snug::reference {
namespace {

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

Elements state(const KernelCall& call, std::size_t i) { return output(call, 1 + i); }
double scalar(const KernelCall& call, std::size_t states, std::size_t i) {
  return input(call, kUpdateStates + states + i)[0];
}
double rate(const KernelCall& call) { return input(call, kUpdateRate)[0]; }

/// What all updates read and write an element at a time.
template <class T>
class Weights {
 public:
  explicit Weights(const KernelCall& call)
      : weight_(output(call, 0)),
        gradient_(input(call, kUpdateGradient)),
        master_(input(call, kUpdateMaster).present() ? output(call, call.outputs.size() - 1)
                                                     : input(call, kUpdateMaster)),
        random_(drawn(call, kUpdateDraw)) {
    const Elements clip = input(call, kUpdateClip);
    if (clip.present()) clip_ = static_cast<T>(clip[0]);
  }
  std::int64_t size() const { return weight_.size(); }
  T gradient(std::int64_t i) const { return static_cast<T>(gradient_[i]) * clip_; }
  T value(std::int64_t i) const {
    return static_cast<T>(master_.present() ? master_[i] : weight_[i]);
  }
  void set(std::int64_t i, T value) const {
    if (master_.present()) {
      master_.set(i, value);
      weight_.set(i, value);
    } else {
      store(weight_, i, value, random_, 0);
    }
  }
  const std::optional<RandomStream>& random() const { return random_; }

 private:
  Elements weight_;
  Elements gradient_;
  Elements master_;
  std::optional<RandomStream> random_;
  T clip_ = T{1};
};

/// 1 - factor * weight_decay, in double, rounded once.
template <class T>
T decay_of(const KernelCall& call, double factor) {
  return static_cast<T>(1.0 - factor * call.attributes.real("weight_decay"));
}

/// AdamW's factors and the new weight; m and v are what the caller stores.
template <class T>
class AdamW {
 public:
  AdamW(const KernelCall& call, std::size_t states)
      : decay_(decay_of<T>(call, rate(call))),
        step_(static_cast<T>(rate(call) / scalar(call, states, 0))),
        inverse_(static_cast<T>(1.0 / std::sqrt(scalar(call, states, 1)))),
        eps_(static_cast<T>(call.attributes.real("eps"))),
        rest1_(static_cast<T>(1.0 - call.attributes.real("beta1"))),
        rest2_(static_cast<T>(1.0 - call.attributes.real("beta2"))),
        keep2_(static_cast<T>(call.attributes.real("beta2"))) {}
  T first(T m, T g) const { return m + rest1_ * (g - m); }
  T second(T v, T g) const { return keep2_ * v + rest2_ * (g * g); }
  T weight(T p, T m, T root) const { return p * decay_ - step_ * (m / (root * inverse_ + eps_)); }

 private:
  T decay_, step_, inverse_, eps_, rest1_, rest2_, keep2_;
};

template <class T>
void adamw(const KernelCall& call) {
  const Weights<T> weights(call);
  const AdamW<T> rule(call, 2);
  for (std::int64_t i = 0; i < weights.size(); ++i) {
    const T g = weights.gradient(i);
    const T m = rule.first(static_cast<T>(state(call, 0)[i]), g);
    const T v = rule.second(static_cast<T>(state(call, 1)[i]), g);
    weights.set(i, rule.weight(weights.value(i), m, std::sqrt(v)));
    store(state(call, 0), i, m, weights.random(), 1);
    store(state(call, 1), i, v, weights.random(), 2);
  }
}

/// An 8-bit state: codes and the largest magnitude of each block.
class Coded {
 public:
  Coded(const KernelCall& call, std::size_t first, bool with_sign)
      : codes_(state(call, first)),
        absmax_(state(call, first + 1)),
        signed_(with_sign),
        map_(with_sign ? signed_dynamic_map() : unsigned_dynamic_map()) {}

  float get(std::int64_t i) const {
    return map_[static_cast<std::size_t>(codes_.integer(i))] *
           static_cast<float>(absmax_[i / kCodeBlock]);
  }
  /// The block that begins with element `first`.
  void set(std::int64_t first, std::span<const float> values) const {
    float largest = 0;
    for (const float value : values) largest = std::max(largest, std::abs(value));
    absmax_.set(first / kCodeBlock, static_cast<double>(largest));
    const float divisor = std::max(largest, std::numeric_limits<float>::min());
    for (std::size_t i = 0; i < values.size(); ++i) {
      codes_.set(first + static_cast<std::int64_t>(i), code_of(values[i] / divisor));
    }
  }

 private:
  /// The nearest; what is below zero never becomes zero.
  double code_of(float value) const {
    constexpr int kZero = 127;
    const int code = nearest_code(map_, value);
    return signed_ && value < 0 && code == kZero ? kZero - 1 : code;
  }

  Elements codes_;
  Elements absmax_;
  bool signed_;
  const DynamicMap& map_;
};

/// Calls body(first, count) for every block of codes.
template <class Body>
void for_code_blocks(std::int64_t count, const Body& body) {
  for (std::int64_t first = 0; first < count; first += kCodeBlock) {
    body(first, std::min(kCodeBlock, count - first));
  }
}

void adamw_8bit(const KernelCall& call) {
  const Weights<float> weights(call);
  const AdamW<float> rule(call, 4);
  const bool root = call.attributes.integer("root") != 0;
  const Coded first_moment(call, 0, true);
  const Coded second_moment(call, 2, false);
  for_code_blocks(weights.size(), [&](std::int64_t first, std::int64_t count) {
    std::array<float, kCodeBlock> m{};
    std::array<float, kCodeBlock> v{};
    for (std::int64_t j = 0; j < count; ++j) {
      const std::int64_t i = first + j;
      const float g = weights.gradient(i);
      const float stored = second_moment.get(i);
      const float moment = rule.first(first_moment.get(i), g);
      const float square = rule.second(root ? stored * stored : stored, g);
      weights.set(i, rule.weight(weights.value(i), moment, std::sqrt(square)));
      m[static_cast<std::size_t>(j)] = moment;
      v[static_cast<std::size_t>(j)] = root ? std::sqrt(square) : square;
    }
    const auto used = static_cast<std::size_t>(count);
    first_moment.set(first, std::span(m).first(used));
    second_moment.set(first, std::span(v).first(used));
  });
}

/// Lion (Chen et al., arXiv 2302.06675).
template <class T>
class Lion {
 public:
  explicit Lion(const KernelCall& call)
      : decay_(decay_of<T>(call, rate(call))),
        rate_(static_cast<T>(rate(call))),
        keep1_(static_cast<T>(call.attributes.real("beta1"))),
        rest1_(static_cast<T>(1.0 - call.attributes.real("beta1"))),
        keep2_(static_cast<T>(call.attributes.real("beta2"))),
        rest2_(static_cast<T>(1.0 - call.attributes.real("beta2"))) {}
  T weight(T p, T m, T g) const {
    const T direction = keep1_ * m + rest1_ * g;
    const T sign = static_cast<T>((direction > 0) - (direction < 0));
    return p * decay_ - rate_ * sign;
  }
  T moment(T m, T g) const { return keep2_ * m + rest2_ * g; }

 private:
  T decay_, rate_, keep1_, rest1_, keep2_, rest2_;
};

template <class T>
void lion(const KernelCall& call) {
  const Weights<T> weights(call);
  const Lion<T> rule(call);
  for (std::int64_t i = 0; i < weights.size(); ++i) {
    const T g = weights.gradient(i);
    const T m = static_cast<T>(state(call, 0)[i]);
    weights.set(i, rule.weight(weights.value(i), m, g));
    state(call, 0).set(i, rule.moment(m, g));
  }
}

void lion_8bit(const KernelCall& call) {
  const Weights<float> weights(call);
  const Lion<float> rule(call);
  const Coded moment(call, 0, true);
  for_code_blocks(weights.size(), [&](std::int64_t first, std::int64_t count) {
    std::array<float, kCodeBlock> m{};
    for (std::int64_t j = 0; j < count; ++j) {
      const float g = weights.gradient(first + j);
      const float before = moment.get(first + j);
      weights.set(first + j, rule.weight(weights.value(first + j), before, g));
      m[static_cast<std::size_t>(j)] = rule.moment(before, g);
    }
    moment.set(first, std::span(m).first(static_cast<std::size_t>(count)));
  });
}

/// torch's SGD: decay is added to the gradient.
template <class T>
void sgd(const KernelCall& call) {
  const Weights<T> weights(call);
  const bool has_momentum = call.outputs.size() > 1 && call.attributes.has("momentum");
  const T momentum = has_momentum ? static_cast<T>(call.attributes.real("momentum")) : T{0};
  const bool nesterov = has_momentum && call.attributes.integer("nesterov") != 0;
  const T decay = static_cast<T>(call.attributes.real("weight_decay"));
  const T step = static_cast<T>(rate(call));
  for (std::int64_t i = 0; i < weights.size(); ++i) {
    const T p = weights.value(i);
    const T g = weights.gradient(i) + decay * p;
    T direction = g;
    if (has_momentum) {
      const T sum = momentum * static_cast<T>(state(call, 0)[i]) + g;
      state(call, 0).set(i, sum);
      direction = nesterov ? g + momentum * sum : sum;
    }
    weights.set(i, p - step * direction);
  }
}

template <void (*kDouble)(const KernelCall&), void (*kSingle)(const KernelCall&)>
void by_type(const KernelCall& call) {
  const Elements apply = input(call, kUpdateApply);
  if (apply.present() && apply.integer(0) == 0) return;
  call.outputs[0].layout.type.dtype == DType::f64 ? kDouble(call) : kSingle(call);
}

constexpr Kernel kKernels[] = {
    {.name = "reference_adamw", .op = Op::adamw, .run = by_type<adamw<double>, adamw<float>>},
    {.name = "reference_adamw_8bit", .op = Op::adamw_8bit, .run = by_type<adamw_8bit, adamw_8bit>},
    {.name = "reference_lion", .op = Op::lion, .run = by_type<lion<double>, lion<float>>},
    {.name = "reference_lion_8bit", .op = Op::lion_8bit, .run = by_type<lion_8bit, lion_8bit>},
    {.name = "reference_sgd", .op = Op::sgd, .run = by_type<sgd<double>, sgd<float>>},
    {.name = "reference_sgd_momentum",
     .op = Op::sgd_momentum,
     .run = by_type<sgd<double>, sgd<float>>},
};

}  // namespace

std::span<const Kernel> updates() { return kKernels; }

}  // namespace snug::reference
