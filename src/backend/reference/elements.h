#pragma once
// Private to the reference back end: operands as arrays of double.

#include <algorithm>
#include <cstdint>
#include <optional>

#include "plan/kernel.h"

namespace snug::reference {

/// The elements of an operand in logical row-major order, whatever their type and row stride.
class Elements {
 public:
  explicit Elements(const Operand& operand)
      : data_(operand.data), type_(operand.layout.type), size_(type_.shape.elements()) {
    row_ = type_.shape.rank() == 0 ? 1 : size_ / std::max<std::int64_t>(1, type_.shape[0]);
    const std::int64_t stride = operand.layout.row_stride;
    gap_ = stride == 0 || type_.shape.rank() == 0 ? 0 : stride - row_;
  }

  bool present() const { return data_ != nullptr; }
  std::int64_t size() const { return size_; }
  const Shape& shape() const { return type_.shape; }
  DType dtype() const { return type_.dtype; }

  double operator[](std::int64_t i) const;
  void set(std::int64_t i, double value) const;
  /// An element of an integer operand.
  std::int64_t integer(std::int64_t i) const;
  /// Rounds to bf16 up or down by `random` 16 bits.
  void set_stochastic(std::int64_t i, double value, std::uint16_t random) const;

 private:
  std::int64_t place(std::int64_t i) const { return gap_ == 0 ? i : i + i / row_ * gap_; }

  std::byte* data_;
  TensorType type_;
  std::int64_t size_;
  std::int64_t row_ = 1;
  std::int64_t gap_ = 0;
};

/// A result that may be added to an accumulator, rounded once: operands acc = inputs[at] and
/// draw = inputs[at + 1], each absent or present.
class Accumulated {
 public:
  Accumulated(const KernelCall& call, const Operand& output, std::size_t at);
  void set(std::int64_t i, double value) const;

 private:
  Elements output_;
  std::optional<Elements> acc_;
  std::optional<RandomStream> random_;
};

/// Operand i as elements; not present when it is not listed.
inline Elements input(const KernelCall& call, std::size_t i) {
  return Elements(i < call.inputs.size() ? call.inputs[i] : Operand{});
}
inline Elements output(const KernelCall& call, std::size_t i) {
  return Elements(i < call.outputs.size() ? call.outputs[i] : Operand{});
}
/// The random bits of `draw` operand i; none when it is absent.
std::optional<RandomStream> drawn(const KernelCall& call, std::size_t i);
/// The scratch as doubles.
inline double* scratch(const KernelCall& call) {
  return reinterpret_cast<double*>(call.scratch.data());
}

}  // namespace snug::reference
