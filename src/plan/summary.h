#pragma once
// A memory report in the words of people: six uses that add up to what the process needs.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "plan/report.h"

namespace snug {

/// What bytes are for. Weights: with fp32 masters and the scales of packed weights. Workspace:
/// kernels' scratch, inputs, constants, and what placement leaves between values. Outside: what the
/// process holds beside the arena.
enum class Use : std::uint8_t { weights, optimizer, gradients, activations, workspace, outside };
inline constexpr std::array kUses = {Use::weights,     Use::optimizer, Use::gradients,
                                     Use::activations, Use::workspace, Use::outside};
std::string_view name_of(Use use);

struct UseBytes {
  Use use = Use::weights;
  std::int64_t bytes = 0;
  std::vector<RoleBytes> parts;  ///< alive at the peak, largest first
};

struct MemorySummary {
  std::vector<UseBytes> uses;     ///< one for each of kUses, at the plan's peak
  std::int64_t needed_bytes = 0;  ///< their sum: the device arena and what lies outside
  std::int64_t budget_bytes = 0;  ///< 0: no limit
  std::string peak;               ///< where it is: `in backward, at the head`

  std::int64_t bytes(Use use) const { return uses[static_cast<std::size_t>(use)].bytes; }
};

MemorySummary summarize(const MemoryReport& report);

/// `in backward, at the head`; `in forward, in layer 3's MLP`; `in the update`.
std::string place_in_words(const PeakAt& at);

/// The six lines, what is free or missing, and the peak's place; lines end with '\n'.
std::string summary_text(const MemorySummary& summary);

}  // namespace snug
