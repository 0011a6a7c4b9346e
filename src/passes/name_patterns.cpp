#include "passes/name_patterns.h"

#include <algorithm>

#include "core/error.h"

namespace snug {

NamePattern::NamePattern(const std::string& text, std::string_view key) {
  try {
    regex_ = std::regex(text);
  } catch (const std::regex_error& error) {
    user_error("{}: '{}' is no regular expression: {}.", key, text, error.what());
  }
}

bool is_expression(std::string_view text) {
  return text.find_first_of("*+?()[]{}|^$\\") != std::string_view::npos;
}

bool is_module(const std::string& name, const std::string& wanted, std::string_view key) {
  if (is_expression(wanted)) return NamePattern(wanted, key).matches(name);
  return name == wanted || name.ends_with("." + wanted);
}

std::string last_parts(const std::string& name) {
  constexpr std::string_view kLayers = ".layers.";
  const std::size_t layers = name.find(kLayers);
  if (layers == std::string::npos) return name;
  return name.substr(name.find('.', layers + kLayers.size()) + 1);
}

std::string distinct_names(std::vector<std::string> names) {
  std::string text;
  std::vector<std::string> seen;
  for (std::string& name : names) {
    if (std::find(seen.begin(), seen.end(), name) != seen.end()) continue;
    text += (text.empty() ? "" : ", ") + name;
    seen.push_back(std::move(name));
  }
  return text;
}

}  // namespace snug
