#pragma once
// The words that plan and train use of memory, explained.

#include <string>
#include <string_view>

#include "cli/console.h"

namespace snug {

/// `peak`, `arena`, `bound`, `classes` and others: that word's entry; `memory`: all of them; empty
/// for any other topic.
std::string terms_for(std::string_view topic, const Terminal& terminal);

}  // namespace snug
