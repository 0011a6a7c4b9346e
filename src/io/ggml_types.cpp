#include "io/ggml_types.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/dtype.h"
#include "core/error.h"

namespace snug {
namespace {

constexpr std::size_t kBlock = 32;
constexpr float kLargestCode = 127.0F;
/// Halfway between fp16's largest number, 65504, and what would be the next.
constexpr float kHalfOverflow = 65520.0F;

template <class T>
void encode_each(std::span<const float> from, std::byte* to) {
  for (const float value : from) {
    const T element(value);
    std::memcpy(to, &element, sizeof element);
    to += sizeof element;
  }
}

void encode_q8_0(std::span<const float> block, std::byte* to) {
  float largest = 0;
  for (const float value : block) largest = std::max(largest, std::fabs(value));
  const float scale = largest / kLargestCode;
  const float inverse = scale == 0 ? 0.0F : 1.0F / scale;
  const Float16 stored(scale);
  std::memcpy(to, &stored, sizeof stored);
  for (std::size_t i = 0; i < kBlock; ++i) {
    to[sizeof stored + i] =
        static_cast<std::byte>(static_cast<std::int8_t>(std::round(block[i] * inverse)));
  }
}

}  // namespace

std::string_view name_of(GgmlType type) {
  switch (type) {
    case GgmlType::f32:
      return "F32";
    case GgmlType::f16:
      return "F16";
    case GgmlType::q8_0:
      return "Q8_0";
    case GgmlType::bf16:
      return "BF16";
  }
  internal_error("type {} has no name", static_cast<int>(type));
}

std::int64_t block_elements(GgmlType type) {
  return type == GgmlType::q8_0 ? static_cast<std::int64_t>(kBlock) : 1;
}

std::int64_t block_bytes(GgmlType type) {
  switch (type) {
    case GgmlType::f32:
      return 4;
    case GgmlType::f16:
    case GgmlType::bf16:
      return 2;
    case GgmlType::q8_0:
      return sizeof(Float16) + kBlock;
  }
  internal_error("type {} has no size", static_cast<int>(type));
}

float overflow_of(GgmlType type) {
  switch (type) {
    case GgmlType::f16:
      return kHalfOverflow;
    case GgmlType::q8_0:
      return kHalfOverflow * kLargestCode;
    default:
      return std::numeric_limits<float>::infinity();
  }
}

void encode_elements(std::span<const float> from, GgmlType type, std::span<std::byte> to) {
  const auto count = static_cast<std::int64_t>(from.size());
  check(count % block_elements(type) == 0 && static_cast<std::int64_t>(to.size()) ==
                                                 count / block_elements(type) * block_bytes(type),
        "{} elements into {} bytes of {}", count, to.size(), name_of(type));
  switch (type) {
    case GgmlType::f32:
      return encode_each<float>(from, to.data());
    case GgmlType::f16:
      return encode_each<Float16>(from, to.data());
    case GgmlType::bf16:
      return encode_each<BFloat16>(from, to.data());
    case GgmlType::q8_0:
      for (std::size_t at = 0; at < from.size(); at += kBlock) {
        encode_q8_0(from.subspan(at, kBlock),
                    to.data() + at / kBlock * static_cast<std::size_t>(block_bytes(type)));
      }
  }
}

}  // namespace snug
