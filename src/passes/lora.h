#pragma once
// Low-rank adapters: LoRA (Hu et al. 2021), rsLoRA (Kalajdzievski 2023), DoRA (Liu et al. 2024), as
// in PEFT.

#include <cstdint>
#include <string>

#include "core/settings.h"
#include "passes/pass.h"

namespace snug {

/// What the graph is for. Only training drops inputs. In generation nothing is trained and the
/// weights do not change: DoRA's norms are made once, in the init phase.
enum class AdapterUse : std::uint8_t { training, evaluation, generation };

/// Freezes every parameter and gives each chosen linear layer y = x Wt + b an adapter: s x At Bt is
/// added into y's place, the scale s on the [T, r] product in between. A and B are parameters
/// `MODULE.lora_A.weight` [r, in] and `MODULE.lora_B.weight` [out, r]. With DoRA the sum is scaled
/// by m / n column by column before the bias: m is parameter `MODULE.lora_magnitude_vector` [out],
/// n the norms of the rows of W + s B A, constants in backward. Dropped inputs draw from stream
/// `MODULE.lora_dropout`. Parameters of `modules_to_save` stay trainable as the adapter's own
/// copies; a head tied to the embedding is untied for it. The base's product stays a linear op.
/// UserError for targets that find nothing, cannot have adapters, or are smaller than the rank.
Pass lora_pass(const LoraOptions& options, std::int64_t seed, AdapterUse use);

/// What is said of a run: `LoRA r 16`; empty when it has no adapters.
std::string describe_adapters(const Settings& settings);

/// Rank, alpha and scale of module `name`.
struct AdapterScale {
  std::int64_t rank = 0;
  double alpha = 0;
  double scale = 0;
};
AdapterScale adapter_scale(const LoraOptions& options, const std::string& name);

}  // namespace snug
