#pragma once
// Operands as bodies of kernels see them: any type, rows with gaps, rounding by element index.

#include "backend/cuda/portable.h"
#include "core/floats.h"
#include "core/philox.h"

namespace snug::cuda {

/// `value` as it is once stored in `type`.
SNUG_HD inline float as_stored(DType type, float value) {
  if (type == DType::bf16) return static_cast<float>(BFloat16(value));
  if (type == DType::f16) return static_cast<float>(Float16(value));
  return value;
}

/// The elements of an operand in row-major order, whatever their type and row stride.
struct View {
  std::byte* data = nullptr;
  DType type = DType::f32;
  std::int64_t size = 0;
  std::int64_t row = 1;  ///< elements of a row
  std::int64_t gap = 0;  ///< elements between rows that are not its own

  SNUG_HD bool present() const { return data != nullptr; }
  SNUG_HD std::int64_t place(std::int64_t i) const { return gap == 0 ? i : i + i / row * gap; }
  template <class T>
  SNUG_HD T& at(std::int64_t i) const {
    return reinterpret_cast<T*>(data)[place(i)];
  }

  SNUG_HD float get(std::int64_t i) const {
    switch (type) {
      case DType::f32:
        return at<float>(i);
      case DType::bf16:
        return static_cast<float>(at<BFloat16>(i));
      case DType::f16:
        return static_cast<float>(at<Float16>(i));
      case DType::f64:
        return static_cast<float>(at<double>(i));
      default:
        return static_cast<float>(integer(i));
    }
  }
  SNUG_HD std::int64_t integer(std::int64_t i) const {
    switch (type) {
      case DType::i64:
        return at<std::int64_t>(i);
      case DType::i32:
        return at<std::int32_t>(i);
      case DType::u8:
        return at<std::uint8_t>(i);
      case DType::i8:
        return at<std::int8_t>(i);
      default:
        return 0;
    }
  }
  SNUG_HD void set(std::int64_t i, float value) const {
    switch (type) {
      case DType::f32:
        at<float>(i) = value;
        return;
      case DType::bf16:
        at<BFloat16>(i) = BFloat16(value);
        return;
      case DType::f16:
        at<Float16>(i) = Float16(value);
        return;
      case DType::f64:
        at<double>(i) = static_cast<double>(value);
        return;
      case DType::i64:
        at<std::int64_t>(i) = static_cast<std::int64_t>(value);
        return;
      case DType::i32:
        at<std::int32_t>(i) = static_cast<std::int32_t>(value);
        return;
      case DType::u8:
        at<std::uint8_t>(i) = static_cast<std::uint8_t>(value);
        return;
      case DType::i8:
        at<std::int8_t>(i) = static_cast<std::int8_t>(value);
        return;
    }
  }
};

/// The random bits of stochastic rounding, as rounding_stream() has them; the draw number lies in
/// the card's memory.
struct Rounding {
  const std::int64_t* draw = nullptr;  ///< nullptr: to nearest
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;

  SNUG_HD RandomStream at(std::uint32_t part) const {
    const auto words = static_cast<std::uint64_t>(*draw);
    RandomStream random;
    random.seed = seed;
    random.stream = stream;
    random.step = static_cast<std::uint32_t>(words);
    random.part = static_cast<std::uint32_t>(words >> 32) + part;
    return random;
  }
};

/// Stores element i: a bf16 with random bits where there are any, else to nearest.
SNUG_HD inline void store(const View& to, std::int64_t i, float value, const Rounding& rounding,
                          std::int64_t element, std::uint32_t part = 0) {
  if (rounding.draw == nullptr || to.type != DType::bf16) {
    to.set(i, value);
    return;
  }
  const std::uint16_t bits = rounding.at(part).bits16(static_cast<std::uint64_t>(element));
  to.at<BFloat16>(i) = BFloat16::round_stochastic(value, bits);
}

/// A result that may be added to what is there, rounded once.
struct Sum {
  View out;
  View acc;  ///< not present: nothing is added
  Rounding rounding;
  std::int64_t first = 0;  ///< element of the whole that element 0 is

  SNUG_HD void set(std::int64_t i, float value) const {
    if (acc.present()) value += acc.get(i);
    store(out, i, value, rounding, first + i);
  }
};

}  // namespace snug::cuda
