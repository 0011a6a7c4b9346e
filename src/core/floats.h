#pragma once
// Element types and the 16-bit floats' exact conversions: what device code shares with the host, so
// it includes nothing but the language's own headers and all of it is constexpr.

#include <bit>
#include <cstdint>

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

/// bfloat16: the upper half of an IEEE-754 binary32.
struct BFloat16 {
  std::uint16_t bits = 0;
  BFloat16() = default;
  constexpr explicit BFloat16(float value) : bits(round(value)) {}
  constexpr explicit operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
  /// Rounds to nearest, ties to even; NaN stays a quiet NaN.
  static constexpr std::uint16_t round(float value) {
    const auto u = std::bit_cast<std::uint32_t>(value);
    if ((u & 0x7fffffffU) > 0x7f800000U) return static_cast<std::uint16_t>((u >> 16) | 0x40U);
    return static_cast<std::uint16_t>((u + 0x7fffU + ((u >> 16) & 1U)) >> 16);
  }
  /// Rounds up with probability low16/65536; `random` is uniform in [0, 65535]. Inf and NaN pass.
  static constexpr BFloat16 round_stochastic(float value, std::uint32_t random) {
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
  constexpr explicit Float16(float value) : bits(round(value)) {}
  constexpr explicit operator float() const { return widen(bits); }
  /// Rounds to nearest, ties to even; overflows to infinity.
  static constexpr std::uint16_t round(float value);
  static constexpr float widen(std::uint16_t half);
};

constexpr std::uint16_t Float16::round(float value) {
  const auto u = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((u >> 16) & 0x8000U);
  const std::uint32_t magnitude = u & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return static_cast<std::uint16_t>(sign | 0x7e00U);
  if (magnitude >= 0x477ff000U) return static_cast<std::uint16_t>(sign | 0x7c00U);
  if (magnitude < 0x33000001U) return sign;  // at most half of the smallest subnormal
  const int exponent = static_cast<int>(magnitude >> 23) - 127;
  const int shift = exponent < -14 ? 13 + (-14 - exponent) : 13;
  const std::uint32_t mantissa = (magnitude & 0x7fffffU) | 0x800000U;
  const std::uint32_t kept = mantissa >> shift;
  const std::uint32_t rest = mantissa & ((1U << shift) - 1U);
  const std::uint32_t half = 1U << (shift - 1);
  const std::uint32_t up = (rest > half || (rest == half && (kept & 1U) != 0)) ? 1U : 0U;
  // A normal number's hidden bit adds one to the exponent field, so the field starts one lower.
  const std::uint32_t field = exponent < -14 ? 0U : static_cast<std::uint32_t>(exponent + 14) << 10;
  return static_cast<std::uint16_t>(sign | (field + kept + up));
}

constexpr float Float16::widen(std::uint16_t half) {
  const std::uint32_t sign = (static_cast<std::uint32_t>(half) & 0x8000U) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1fU;
  const std::uint32_t mantissa = half & 0x3ffU;
  if (exponent == 0x1fU) return std::bit_cast<float>(sign | 0x7f800000U | (mantissa << 13));
  if (exponent != 0) {
    return std::bit_cast<float>(sign | ((exponent + 112U) << 23) | (mantissa << 13));
  }
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
  return sign != 0 ? -magnitude : magnitude;
}

}  // namespace snug
