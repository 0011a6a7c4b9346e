#include <fmt/format.h>

#include <algorithm>

#include "core/settings_load.h"

namespace snug {
namespace {

/// The row's value as it stands, as YAML.
std::string value_of(const Row& row, const Settings& settings) {
  return row.field ? row.field.print(settings) : std::string(row.initial.full);
}

}  // namespace

std::string shell_word(std::string_view word) {
  const auto safe = [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string_view("_-./=:+,@%").find(static_cast<char>(c)) != std::string_view::npos;
  };
  if (!word.empty() && std::all_of(word.begin(), word.end(), safe)) return std::string(word);
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::string effective_yaml(const Settings& settings, std::span<const Group> groups,
                           const std::map<std::string, std::string>& comments) {
  std::string text;
  for (const Group group : groups) {
    text += fmt::format("{}# {}\n", text.empty() ? "" : "\n", title_of(group));
    for (const Row& row : settings_table()) {
      if (row.group != group || row.status != Status::supported || !row.recorded) continue;
      const auto comment = comments.find(std::string(row.key));
      text += fmt::format("{}: {}{}\n", row.key, value_of(row, settings),
                          comment == comments.end() ? "" : "  # " + comment->second);
    }
  }
  return text;
}

std::string repro_line(std::string_view verb, const Settings& settings) {
  std::string line = fmt::format("snug {}", verb);
  for (const Row& row : settings_table()) {
    if (!settings.is_set(row.key)) continue;
    // A quoted YAML scalar is the text itself on a command line.
    std::string value = value_of(row, settings);
    if (value.starts_with('"')) value = parse_yaml_value(value, std::string(row.key)).text;
    line += ' ' + shell_word(fmt::format("{}={}", row.key, value));
  }
  return line;
}

}  // namespace snug
