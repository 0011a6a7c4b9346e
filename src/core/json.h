#pragma once
// JSON from files that may be damaged or hostile.

#include <nlohmann/json_fwd.hpp>
#include <string_view>

namespace snug {

/// Parses one JSON text. UserError naming `where` (a file) for a syntax error, a name that occurs
/// twice in one object, or nesting deeper than 64.
nlohmann::json parse_json(std::string_view text, std::string_view where);

}  // namespace snug
