#pragma once
// Cutting arrays out of a kernel's granted scratch.

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/error.h"

namespace snug {

constexpr std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// Bytes that Scratch::take uses for `count` elements of `size` bytes.
constexpr std::int64_t scratch_bytes(std::int64_t count, std::int64_t size) {
  return round_up(count * size, 64);
}

/// Hands out consecutive pieces of a scratch area whose start is aligned to 64 bytes; every piece
/// is aligned to 64 bytes. InternalError when the area is too small.
class Scratch {
 public:
  explicit Scratch(std::span<std::byte> area) : area_(area) {}

  template <class T>
  T* take(std::int64_t count) {
    const std::int64_t bytes = scratch_bytes(count, static_cast<std::int64_t>(sizeof(T)));
    check(used_ + bytes <= static_cast<std::int64_t>(area_.size()),
          "scratch of {} bytes is too small: {} needed", area_.size(), used_ + bytes);
    T* piece = reinterpret_cast<T*>(area_.data() + used_);
    used_ += bytes;
    return piece;
  }

 private:
  std::span<std::byte> area_;
  std::int64_t used_ = 0;
};

}  // namespace snug
