#pragma once
// Shapes and tensor types. A shape is a capacity: ops may use fewer rows (see Op's `count`).

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "core/dtype.h"

namespace snug {

/// Up to four dimensions, row-major, outermost first. Rank 0 is a scalar: one element.
class Shape {
 public:
  static constexpr int kMaxRank = 4;
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims);
  explicit Shape(std::span<const std::int64_t> dims);

  int rank() const { return rank_; }
  /// Dimension `axis`; negative axes count from the last.
  std::int64_t operator[](int axis) const { return dims_[static_cast<std::size_t>(wrap(axis))]; }
  void set(int axis, std::int64_t size) { dims_[static_cast<std::size_t>(wrap(axis))] = size; }
  std::int64_t elements() const;
  /// The product of all dimensions but the last; 1 for scalars.
  std::int64_t rows() const { return rank_ == 0 ? 1 : elements() / (*this)[-1]; }
  std::span<const std::int64_t> dims() const {
    return {dims_.data(), static_cast<std::size_t>(rank_)};
  }
  std::string to_string() const;  ///< `[2048, 576]`, `[]` for a scalar.
  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  int wrap(int axis) const { return axis < 0 ? axis + rank_ : axis; }
  std::array<std::int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

struct TensorType {
  DType dtype = DType::f32;
  Shape shape;
  std::int64_t bytes() const { return shape.elements() * size_of(dtype); }
  std::string to_string() const;  ///< `bf16[2048, 576]`
  friend bool operator==(const TensorType&, const TensorType&) = default;
};

}  // namespace snug
