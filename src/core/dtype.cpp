#include "core/dtype.h"

#include <array>
#include <utility>

namespace snug {
namespace {

constexpr std::array<std::pair<DType, std::string_view>, 8> kNames = {{
    {DType::f64, "f64"},
    {DType::f32, "f32"},
    {DType::bf16, "bf16"},
    {DType::f16, "f16"},
    {DType::i64, "i64"},
    {DType::i32, "i32"},
    {DType::u8, "u8"},
    {DType::i8, "i8"},
}};

}  // namespace

std::string_view name_of(DType type) {
  for (const auto& [dtype, name] : kNames) {
    if (dtype == type) return name;
  }
  internal_error("dtype {} has no name", static_cast<int>(type));
}

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const auto& [dtype, known] : kNames) {
    if (known == name) return dtype;
  }
  return std::nullopt;
}

}  // namespace snug
