#pragma once
// Private to the CUDA back end: from what a call lists to what bodies take.

#include <optional>
#include <string>

#include "backend/cuda/bodies_products.h"
#include "plan/kernel.h"

namespace snug::cuda {

/// An operand; not present where it is absent.
View view(const Operand& operand);
inline View in(const KernelCall& call, std::size_t i) {
  return i < call.inputs.size() ? view(call.inputs[i]) : View{};
}
inline View out(const KernelCall& call, std::size_t i) {
  return i < call.outputs.size() ? view(call.outputs[i]) : View{};
}
template <class T>
T* pointer(const KernelCall& call, std::size_t i) {
  return i < call.inputs.size() ? call.inputs[i].as<T>() : nullptr;
}
inline const Shape& shape_in(const KernelCall& call, std::size_t i) {
  return call.inputs[i].layout.type.shape;
}
inline const Shape& shape_out(const KernelCall& call, std::size_t i) {
  return call.outputs[i].layout.type.shape;
}

/// The random bits by the draw operand i.
Rounding rounding(const KernelCall& call, std::size_t i);
/// Output `output` on top of acc = inputs[at], rounded by draw = inputs[at + 1].
Sum sum_of(const KernelCall& call, std::size_t output, std::size_t at);
/// The [.., columns] matrix in the four operands from `first` on.
Packed packed(const KernelCall& call, std::size_t first, std::int64_t columns);

/// Elements begin..begin + size of a dense view.
View part_of(const View& whole, std::int64_t begin, std::int64_t size);
/// Dense floats.
View floats(float* data, std::int64_t size);
/// One row after the other: (i, k) is element i * inner_size + k.
Factor rows_of(const View& view, std::int64_t inner_size);
/// The other way: (i, k) is element k * outer_size + i.
Factor columns_of(const View& view, std::int64_t outer_size);

/// The products of `linear`, `linear_dx` and `linear_dw` (ir/ops_products.cpp has the operands).
Product linear_product(const KernelCall& call);
Product linear_dx_product(const KernelCall& call);
Product linear_dw_product(const KernelCall& call);

/// The attribute `eps` of norms.
inline float eps_of(const KernelCall& call) {
  return static_cast<float>(call.attributes.real("eps"));
}

/// Takes pieces of a call's scratch, each aligned to 256 bytes.
class Pieces {
 public:
  explicit Pieces(std::span<std::byte> area) : area_(area) {}
  template <class T>
  T* take(std::int64_t count) {
    auto* const piece = reinterpret_cast<T*>(area_.data() + used_);
    used_ += static_cast<std::size_t>(bytes(count, sizeof(T)));
    check(used_ <= area_.size(), "{} bytes of a grant of {}", used_, area_.size());
    return piece;
  }
  static std::int64_t bytes(std::int64_t count, std::size_t size) {
    return (count * static_cast<std::int64_t>(size) + 255) / 256 * 256;
  }

 private:
  std::span<std::byte> area_;
  std::size_t used_ = 0;
};

/// A refusal of operands in fp64, which no kernel takes.
std::optional<std::string> refuses_double(const KernelQuery& query);
/// A refusal unless the rows of every operand follow each other without gaps.
std::optional<std::string> refuses_gaps(const KernelQuery& query);

}  // namespace snug::cuda
