#pragma once
// A recipe in words.

#include <string>

#include "plan/recipe.h"

namespace snug {

/// What is trained, and over which base: `full`, `LoRA r 16`, `DoRA r 8, nf4 base, double
/// quantised`.
std::string describe_tuning(const Settings& settings);

/// `full, bf16 + fp32 master, 2 × 8 rows of ≤ 2048, activation_checkpointing true`
std::string describe_recipe(const Recipe& recipe);

/// `fits: 15.31 of 24.00 GiB on cpu · full, bf16 + fp32 master, 2 × 8 rows of ≤ 2048`
std::string describe_verdict(const Recipe& recipe, std::int64_t budget_bytes);

}  // namespace snug
