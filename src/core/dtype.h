#pragma once
// Element types of tensors by name and as C++ types.

#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>

#include "core/error.h"
#include "core/floats.h"

namespace snug {

/// The short name, as in the graph's text form: `bf16`.
std::string_view name_of(DType type);
std::optional<DType> dtype_from_name(std::string_view name);

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
