#pragma once
// What the files of updates share beside SIMD code.

#include <cstdint>

#include "backend/cpu/update.h"
#include "core/error.h"

namespace snug {

/// Elements that one worker updates at a time; a multiple of an 8-bit state's block.
constexpr std::int64_t kUpdateBlock = 16384;

inline void check_update_types(const Update& update) {
  for (const DType type : {update.weight_type, update.gradient_type}) {
    check(type == DType::f32 || type == DType::bf16, "an update of {}", name_of(type));
  }
}

/// Whether the step is left out.
inline bool skips(const Update& update) { return update.apply != nullptr && *update.apply == 0; }

/// 1 - lr * weight_decay, rounded once.
inline float decay_of(const Update& update) {
  return static_cast<float>(1 - static_cast<double>(*update.lr) * update.weight_decay);
}

}  // namespace snug
