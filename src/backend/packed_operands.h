#pragma once
// The operands of a packed matrix as ops list them: codes, scales, nested?, offset?.

#include "core/packed_format.h"
#include "plan/kernel.h"

namespace snug {

/// The [rows, columns] matrix in the four operands of `call` from `first` on.
inline PackedMatrix packed_matrix(const KernelCall& call, std::size_t first, std::int64_t rows,
                                  std::int64_t columns) {
  const auto data = [&](std::size_t i) {
    return first + i < call.inputs.size() ? call.inputs[first + i].data : nullptr;
  };
  const auto* const offset = reinterpret_cast<const float*>(data(3));
  return {.format = *packed_format_from_name(call.attributes.text("format")),
          .rows = rows,
          .columns = columns,
          .codes = reinterpret_cast<const std::uint8_t*>(data(0)),
          .scales = data(1),
          .nested = reinterpret_cast<const float*>(data(2)),
          .offset = offset == nullptr ? 0.0F : *offset};
}

}  // namespace snug
