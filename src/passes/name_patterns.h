#pragma once
// Names of modules and parameters against what users write for them.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct pcre2_real_code_8;

namespace snug {

/// A regular expression of a setting: PCRE2's, of which Python's are nearly all
/// (pcre2pattern(3)).
class NamePattern {
 public:
  /// UserError naming `key` when the expression is malformed.
  NamePattern(const std::string& text, std::string_view key);
  /// The whole name. UserError when the match needs more backtracking than PCRE2 allows.
  bool matches(std::string_view name) const;
  /// A part of it.
  bool found_in(std::string_view name) const;

 private:
  struct Free {
    void operator()(pcre2_real_code_8* code) const;
  };
  bool match(std::string_view name, std::uint32_t options) const;

  std::string text_;
  std::string key_;
  std::unique_ptr<pcre2_real_code_8, Free> code_;
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
