#pragma once
// Published model shapes as data: what can be planned, timed and trained from random weights
// without a model folder.

#include <string_view>
#include <vector>

#include "model/config.h"

namespace snug {

/// The shape called `name` (what follows `shape:`). UserError with the nearest name and the list
/// for one that is not known.
ModelConfig shape_config(std::string_view name);

/// All names, in the table's order.
std::vector<std::string_view> shape_names();

}  // namespace snug
