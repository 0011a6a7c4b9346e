#pragma once
// The rotary embedding's frequencies, as transformers computes them.

#include <cstdint>

#include "ir/attributes.h"

namespace snug {

/// Radians a position that pair `pair` of a head turns by. `attributes` are a rope_table's:
/// `half` (pairs), `theta`, and `scaling`: absent or `default`; `linear` with `factor`; `llama3`
/// with `factor`, `low_freq_factor`, `high_freq_factor`, `original_positions`.
double rope_frequency(const Attributes& attributes, std::int64_t pair);

}  // namespace snug
