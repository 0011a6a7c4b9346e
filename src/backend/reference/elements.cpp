#include "backend/reference/elements.h"

namespace snug::reference {

double Elements::operator[](std::int64_t i) const {
  return visit_dtype(type_.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T value = reinterpret_cast<const T*>(data_)[place(i)];
    if constexpr (std::is_arithmetic_v<T>) {
      return static_cast<double>(value);
    } else {
      return static_cast<double>(static_cast<float>(value));
    }
  });
}

void Elements::set(std::int64_t i, double value) const {
  visit_dtype(type_.dtype, [&](auto zero) {
    using T = decltype(zero);
    T& to = reinterpret_cast<T*>(data_)[place(i)];
    if constexpr (std::is_arithmetic_v<T>) {
      to = static_cast<T>(value);
    } else {
      to = T(static_cast<float>(value));
    }
  });
}

std::int64_t Elements::integer(std::int64_t i) const {
  return visit_dtype(type_.dtype, [&](auto zero) -> std::int64_t {
    using T = decltype(zero);
    if constexpr (std::is_integral_v<T>) {
      return reinterpret_cast<const T*>(data_)[place(i)];
    } else {
      internal_error("{} is no integer type", name_of(type_.dtype));
    }
  });
}

void Elements::set_stochastic(std::int64_t i, double value, std::uint16_t random) const {
  reinterpret_cast<BFloat16*>(data_)[place(i)] =
      BFloat16::round_stochastic(static_cast<float>(value), random);
}

std::optional<RandomStream> drawn(const KernelCall& call, std::size_t i) {
  const Elements draw = input(call, i);
  if (!draw.present()) return std::nullopt;
  return rounding_stream(call.attributes, draw.integer(0));
}

Accumulated::Accumulated(const KernelCall& call, const Operand& output, std::size_t at)
    : output_(output) {
  const Elements acc = input(call, at);
  if (acc.present()) acc_ = acc;
  if (output_.dtype() == DType::bf16) random_ = drawn(call, at + 1);
}

void Accumulated::set(std::int64_t i, double value) const {
  if (acc_) value += (*acc_)[i];
  if (random_) {
    output_.set_stochastic(i, value, random_->bits16(static_cast<std::uint64_t>(i)));
  } else {
    output_.set(i, value);
  }
}

}  // namespace snug::reference
