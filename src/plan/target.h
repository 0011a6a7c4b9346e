#pragma once
// What a plan is made for: an input of the plan, so that a plan can be made on another machine.

#include <cstdint>
#include <string>
#include <string_view>

#include "ir/graph.h"
#include "plan/card.h"

namespace snug {

/// Instruction sets of x86-64 that kernels distinguish; each includes those before it.
enum class Isa : std::uint8_t { avx2, avx512, avx512_bf16, amx };

std::string_view name_of(Isa isa);

struct Target {
  std::string backend = "cpu";  ///< `cpu`, `reference`, `cuda`
  Isa isa = Isa::avx2;
  int threads = 1;
  std::string libraries;  ///< e.g. `Highway 1.0.3`: grants may depend on it
  Card card = {};         ///< of the `cuda` back end
  /// Alignment of a value in a space, in bytes; part of the planned bytes.
  std::int64_t alignment(Space space) const {
    return space == Space::disk ? 4096 : (backend == "cuda" ? 512 : 64);
  }
};

}  // namespace snug
