#pragma once
// Buffers with guard bytes, random data and scratch for kernel tests.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <span>
#include <type_traits>
#include <vector>

#include "backend/cpu/isa.h"
#include "core/dtype.h"

namespace snug::testing {

/// `count` elements of T, NaN at first, between guard bytes; aligned to sizeof(T) only.
template <class T>
class Guarded {
 public:
  explicit Guarded(std::int64_t count)
      : count_(count), bytes_(static_cast<std::size_t>(count) * sizeof(T) + 2 * kGuard, kMark) {}
  T* data() { return reinterpret_cast<T*>(bytes_.data() + kGuard); }
  const T* data() const { return reinterpret_cast<const T*>(bytes_.data() + kGuard); }
  std::int64_t size() const { return count_; }
  T& operator[](std::int64_t i) { return data()[i]; }
  const T& operator[](std::int64_t i) const { return data()[i]; }
  double at(std::int64_t i) const { return static_cast<double>(static_cast<float>(data()[i])); }
  void expect_guards_untouched() const {
    for (std::size_t i = 0; i < kGuard; ++i) {
      ASSERT_EQ(bytes_[i], kMark) << "written " << kGuard - i << " bytes before the buffer";
      ASSERT_EQ(bytes_[bytes_.size() - 1 - i], kMark) << "written behind the buffer";
    }
  }
  bool same_bits(const Guarded& other) const { return bytes_ == other.bytes_; }

 private:
  static constexpr std::size_t kGuard = 192 + sizeof(T);  // also breaks 64-byte alignment
  static constexpr std::uint8_t kMark = 0xff;             // a NaN where read as a float
  std::int64_t count_;
  std::vector<std::uint8_t> bytes_;
};

template <class T>
T rounded(double value) {
  return T(static_cast<float>(value));
}

template <class T>
void fill_normal(Guarded<T>& buffer, std::uint64_t seed, double scale = 1) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal(0, scale);
  for (std::int64_t i = 0; i < buffer.size(); ++i) buffer[i] = rounded<T>(normal(random));
}

/// Bytes aligned to 64, all NaN at first.
class ScratchArea {
 public:
  explicit ScratchArea(std::int64_t bytes)
      : bytes_(bytes), memory_(static_cast<std::size_t>(bytes) + 128, std::byte{0xff}) {}
  std::span<std::byte> span() {
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    const std::size_t skip = (64 - address % 64) % 64;
    return {memory_.data() + skip, static_cast<std::size_t>(bytes_)};
  }

 private:
  std::int64_t bytes_;
  std::vector<std::byte> memory_;
};

/// The machine's instruction set, capped by SNUG_TEST_ISA.
inline Isa allowed_isa() {
  const char* name = std::getenv("SNUG_TEST_ISA");
  const auto cap = isa_from_name(name != nullptr ? name : "amx");
  return std::min(detect_isa(), cap.value_or(Isa::avx2));
}

template <class T>
constexpr DType dtype_of() {
  return std::is_same_v<T, BFloat16> ? DType::bf16 : DType::f32;
}

/// Half a unit in the last place of T, relative.
template <class T>
constexpr double half_ulp() {
  return std::is_same_v<T, BFloat16> ? 0x1p-8 : 0x1p-24;
}

/// Largest |actual - expected| over the root mean square of `expected`, or of 1e-30 when that is 0.
template <class T>
double relative_error(const Guarded<T>& actual, const std::vector<double>& expected) {
  double square = 0;
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double value = actual.at(static_cast<std::int64_t>(i));
    if (!std::isfinite(value)) return INFINITY;
    square += expected[i] * expected[i];
    worst = std::max(worst, std::abs(value - expected[i]));
  }
  return worst / (std::sqrt(square / static_cast<double>(expected.size())) + 1e-30);
}

}  // namespace snug::testing
