#pragma once
// What instruction set this machine has, and a cap on what is used.

#include <optional>
#include <string_view>

#include "plan/target.h"

namespace snug {

/// avx512: F, BW, DQ, VL, CD.
std::optional<Isa> isa_from_name(std::string_view name);

/// The best set that this CPU and operating system support. Asks Linux for the AMX tile registers,
/// which a process must do before its first tile instruction. UserError below AVX2.
Isa detect_isa();

/// Caps Highway's run-time dispatch at `isa` for the whole process. Call it at most once, before
/// the first kernel runs; kernels that take an Isa are to be given one no better than this.
void cap_isa(Isa isa);

}  // namespace snug
