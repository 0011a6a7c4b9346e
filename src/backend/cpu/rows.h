#pragma once
// A matrix operand of a kernel.

#include <cstdint>

namespace snug {

/// Row r of an input starts `stride` elements after row r - 1.
struct RowsIn {
  const void* data = nullptr;
  std::int64_t stride = 0;

  template <class T>
  const T* row(std::int64_t r) const {
    return static_cast<const T*>(data) + r * stride;
  }
};

/// The same for an output.
struct RowsOut {
  void* data = nullptr;
  std::int64_t stride = 0;

  template <class T>
  T* row(std::int64_t r) const {
    return static_cast<T*>(data) + r * stride;
  }
};

}  // namespace snug
