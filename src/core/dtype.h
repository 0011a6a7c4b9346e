#pragma once
// Element types of tensors, and the 16-bit floats' exact conversions.

#include <bit>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>

#include "core/error.h"

namespace snug {

enum class DType : std::uint8_t { f64, f32, bf16, f16, i64, i32, u8, i8 };

/// Bytes of one element.
constexpr std::int64_t size_of(DType type) {
  switch (type) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
      return 2;
    case DType::u8:
    case DType::i8:
      return 1;
  }
  return 0;
}

constexpr bool is_float(DType type) { return type <= DType::f16; }

/// The short name, as in the graph's text form: `bf16`.
std::string_view name_of(DType type);
std::optional<DType> dtype_from_name(std::string_view name);

/// bfloat16: the upper half of an IEEE-754 binary32.
struct BFloat16 {
  std::uint16_t bits = 0;
  BFloat16() = default;
  explicit BFloat16(float value) : bits(round(value)) {}
  explicit operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
  /// Rounds to nearest, ties to even; NaN stays a quiet NaN.
  static std::uint16_t round(float value) {
    const auto u = std::bit_cast<std::uint32_t>(value);
    if ((u & 0x7fffffffU) > 0x7f800000U) return static_cast<std::uint16_t>((u >> 16) | 0x40U);
    return static_cast<std::uint16_t>((u + 0x7fffU + ((u >> 16) & 1U)) >> 16);
  }
  /// Rounds up with probability low16/65536; `random` is uniform in [0, 65535]. Inf and NaN pass.
  static BFloat16 round_stochastic(float value, std::uint32_t random) {
    BFloat16 result;
    const auto u = std::bit_cast<std::uint32_t>(value);
    if ((u & 0x7f800000U) == 0x7f800000U) {
      result.bits = round(value);
    } else {
      result.bits = static_cast<std::uint16_t>((u + (random & 0xffffU)) >> 16);
    }
    return result;
  }
};

/// IEEE-754 binary16.
struct Float16 {
  std::uint16_t bits = 0;
  Float16() = default;
  explicit Float16(float value) : bits(round(value)) {}
  explicit operator float() const { return widen(bits); }
  /// Rounds to nearest, ties to even; overflows to infinity.
  static std::uint16_t round(float value);
  static float widen(std::uint16_t half);
};

/// Calls `f` with a value-initialised object of the C++ type that stores `type`:
/// `visit_dtype(t, [&](auto zero) { using T = decltype(zero); ... })`.
template <class F>
decltype(auto) visit_dtype(DType type, F&& f) {
  switch (type) {
    case DType::f64:
      return f(double{});
    case DType::f32:
      return f(float{});
    case DType::bf16:
      return f(BFloat16{});
    case DType::f16:
      return f(Float16{});
    case DType::i64:
      return f(std::int64_t{});
    case DType::i32:
      return f(std::int32_t{});
    case DType::u8:
      return f(std::uint8_t{});
    case DType::i8:
      return f(std::int8_t{});
  }
  internal_error("dtype {} is not a dtype", static_cast<int>(type));
}

}  // namespace snug
