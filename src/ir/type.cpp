#include "ir/type.h"

#include <algorithm>

namespace snug {

Shape::Shape(std::initializer_list<std::int64_t> dims)
    : Shape(std::span<const std::int64_t>(dims.begin(), dims.size())) {}

Shape::Shape(std::span<const std::int64_t> dims) : rank_(static_cast<int>(dims.size())) {
  check(rank_ <= kMaxRank, "a shape of {} dimensions; at most {} are supported", rank_, kMaxRank);
  std::copy(dims.begin(), dims.end(), dims_.begin());
}

std::int64_t Shape::elements() const {
  std::int64_t product = 1;
  for (const std::int64_t dim : dims()) {
    check(!__builtin_mul_overflow(product, dim, &product), "{} has more than 2^63 elements",
          Late{[this] { return to_string(); }});
  }
  return product;
}

std::string Shape::to_string() const { return fmt::format("[{}]", fmt::join(dims(), ", ")); }

std::string TensorType::to_string() const {
  return std::string(name_of(dtype)) + shape.to_string();
}

}  // namespace snug
