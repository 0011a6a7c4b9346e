#pragma once
// The element types of GGUF files that snug writes, and their encoding.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace snug {

/// With ggml's numbers (ggml.h, enum ggml_type).
enum class GgmlType : std::uint32_t { f32 = 0, f16 = 1, q8_0 = 8, bf16 = 30 };

/// As file names and tools spell it: `Q8_0`.
std::string_view name_of(GgmlType type);

/// Elements of a block: 32 for q8_0, else 1.
std::int64_t block_elements(GgmlType type);
/// Bytes of a block: 34 for q8_0 (a scale in fp16, 32 codes), else the element's.
std::int64_t block_bytes(GgmlType type);

/// The smallest magnitude that becomes infinite in the type; infinity where none does.
float overflow_of(GgmlType type);

/// Encodes whole blocks; `to` has exactly their bytes. fp16 and bf16 round to nearest even. q8_0 is
/// ggml's quantize_row_q8_0_ref (ggml-quants.c) bit for bit: d = max|x| / 127 in fp32, codes
/// round(x * (1 / d)) with halves away from zero, d stored in fp16. q8_0 needs finite values.
void encode_elements(std::span<const float> from, GgmlType type, std::span<std::byte> to);

}  // namespace snug
