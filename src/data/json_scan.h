#pragma once
// JSON texts cut into their parts without building them: the parts stay as they are written.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace snug {

/// The members of an object, in order: names decoded, values as they stand.
using JsonMembers = std::vector<std::pair<std::string, std::string_view>>;

/// The names and raw values of one JSON object; views into `text`. The grammar is RFC 8259's and,
/// as Python's, NaN, Infinity and -Infinity. What stands inside
/// strings is not looked at, but for names, which are valid UTF-8. UserError
/// naming `where` for anything else, for text behind the object (a NUL is text), for a name that
/// occurs twice in the outer object, and for nesting deeper than 64.
JsonMembers json_members(std::string_view text, std::string_view where);

/// The raw elements of one JSON array, likewise.
std::vector<std::string_view> json_elements(std::string_view text, std::string_view where);

/// Whether the raw value is `null`.
inline bool is_json_null(std::string_view value) { return value == "null"; }

/// What a raw value is, in words: `text`, `a number`, `an object`.
std::string_view json_kind(std::string_view value);

}  // namespace snug
