#pragma once
// Help and documentation, printed from the tables of verbs and settings.

#include <span>
#include <string>
#include <string_view>

#include "cli/command_line.h"
#include "cli/console.h"

namespace snug {

/// `snug help`: what snug is, the verbs, the grammar, the exit statuses.
std::string overview(std::span<const Verb> verbs, const Terminal& terminal);

/// `snug help TOPIC`: a verb with its settings, a setting under any of its names, or `all` of them.
/// UserError with the nearest name for any other topic.
std::string help_for(std::string_view topic, std::span<const Verb> verbs, const Terminal& terminal);

/// Both tables as one JSON object, schema 1.
std::string tables_as_json(std::span<const Verb> verbs);

/// docs/defaults.md.
std::string defaults_markdown();

}  // namespace snug
