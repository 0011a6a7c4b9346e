#pragma once
// What merging an adapter does to a model's logits.

#include <cstdint>
#include <filesystem>

#include "core/settings.h"

namespace snug {

/// Of the logits behind each sample's last token, merged against base and adapter apart.
struct LogitsDifference {
  std::int64_t samples = 0;
  double mean = 0;                ///< of the absolute differences
  double largest = 0;             ///< of them
  double typical = 0;             ///< root mean square of the logits, apart
  std::int64_t same_choices = 0;  ///< samples whose likeliest token is the same
};

/// Feeds the first rows of `settings`' data, at most 8 and of each at most 128 tokens, to the model
/// of `settings` (base and adapter, see with_adapter) and to the model in `merged`, one after the
/// other, planned as generate plans. Holds one model at a time. UserError as generate's; DoesNotFit
/// where a model exceeds the budget.
LogitsDifference compare_merged(const Settings& settings, const std::filesystem::path& merged);

}  // namespace snug
