#pragma once
// The instruction sets that the CPU kernels tell apart.

#include <cstdint>
#include <optional>
#include <string_view>

namespace snug {

/// Each includes the ones before it. avx2: with FMA and F16C; avx512: F, BW, DQ, VL, CD.
enum class Isa : std::uint8_t { avx2, avx512, avx512_bf16, amx };

std::string_view name_of(Isa isa);
std::optional<Isa> isa_from_name(std::string_view name);

/// The best set that this CPU and operating system support. Asks Linux for the AMX tile registers,
/// which a process must do before its first tile instruction. UserError below AVX2.
Isa detect_isa();

/// Caps Highway's run-time dispatch at `isa` for the whole process. Call it at most once, before
/// the first kernel runs; kernels that take an Isa are to be given one no better than this.
void cap_isa(Isa isa);

}  // namespace snug
