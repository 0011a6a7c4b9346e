#pragma once
// Names of modules and parameters against what users write for them.

#include <regex>
#include <string>
#include <string_view>
#include <vector>

namespace snug {

/// A regular expression of a setting.
class NamePattern {
 public:
  /// UserError naming `key` when the expression is malformed.
  NamePattern(const std::string& text, std::string_view key);
  bool matches(const std::string& name) const { return std::regex_match(name, regex_); }
  bool found_in(const std::string& name) const { return std::regex_search(name, regex_); }

 private:
  std::regex regex_;
};

/// Whether the text is meant as a regular expression: it has a character that no name has.
bool is_expression(std::string_view text);

/// A module by its whole name or a dotted end of it, or by an expression of the whole name: what
/// PEFT's target_modules mean.
bool is_module(const std::string& name, const std::string& wanted, std::string_view key);

/// What follows the layer's number: `self_attn.q_proj.weight`; the whole name outside layers.
std::string last_parts(const std::string& name);

/// Each name once, in order of first mention: `a, b, c`.
std::string distinct_names(std::vector<std::string> names);

}  // namespace snug
