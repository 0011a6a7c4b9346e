#include "core/settings_load.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/text.h"

namespace snug {
namespace {

using Kind = RawValue::Kind;

/// A value in the one spelling that inert values are compared in.
std::string normal(std::string_view text) {
  if (const auto number = parse_number(text)) return fmt::format("{}", *number);
  if (text == "True" || text == "TRUE") return "true";
  if (text == "False" || text == "FALSE") return "false";
  if (text == "None" || text == "~") return "null";
  return std::string(text);
}

/// The value under the canonical key's meaning.
RawValue translate(const Found& found, const RawValue& value) {
  if (found.alias == nullptr || value.kind != Kind::scalar) return value;
  const auto on = parse_bool(value.text);
  for (const auto& [from, to] : found.alias->values) {
    if (value.text == from || (on && parse_bool(from) == on)) {
      return RawValue::scalar(std::string(to));
    }
  }
  return value;
}

/// Asks for nothing: the peer's default, null, false and none, and what the row names.
bool is_inert(const Row& row, const RawValue& value) {
  if (value.kind == Kind::null) return true;
  const std::string text = normal(value.print());
  if (row.status != Status::supported &&
      (text == "null" || text == "none" || text == "false" || text == "[]" || text == "{}")) {
    return true;
  }
  return std::any_of(row.inert.begin(), row.inert.end(),
                     [&](std::string_view inert) { return normal(inert) == text; });
}

/// `config.yaml:7: learning_rate (written lr)`
std::string where(const Assignment& assignment, const Found& found) {
  const std::string alias =
      found.alias == nullptr ? "" : fmt::format(" (written {})", found.alias->name);
  return fmt::format("{}: {}{}", assignment.origin.place, found.row->key, alias);
}

[[noreturn]] void unknown_key(const Assignment& assignment) {
  const auto guess = nearest_setting(assignment.key);
  user_error(
      "{}: unknown key '{}'. {}", assignment.origin.place, assignment.key,
      guess ? fmt::format("Did you mean {}?", *guess) : "`snug help settings` lists the keys.");
}

/// Refuses values that the row names as not possible, one by one for lists.
void refuse_named(const Assignment& assignment, const Found& found, const RawValue& value) {
  std::vector<std::string> parts = value.items;
  if (value.kind == Kind::scalar) parts.push_back(value.text);
  for (const RefusedValues& refused : found.row->refused) {
    for (const std::string& part : parts) {
      if (std::find(refused.values.begin(), refused.values.end(), part) == refused.values.end()) {
        continue;
      }
      user_error("{} is {}: {}.", where(assignment, found), part, refused.why);
    }
  }
}

[[noreturn]] void wrong_value(const Assignment& assignment, const Found& found,
                              const RawValue& value) {
  const Row& row = *found.row;
  std::string guess;
  if (const auto choice = nearest(value.text, row.field.choices)) {
    guess = fmt::format(" Did you mean {}?", *choice);
  }
  user_error("{} is {}, expected {}.{}", where(assignment, found), value.print(),
             row.field ? row.field.expected : std::string(row.initial.full), guess);
}

/// Sets one key; returns whether it now has a value of its own.
bool apply(const Assignment& assignment, const Found& found, Settings& settings) {
  const Row& row = *found.row;
  const RawValue value = translate(found, assignment.value);
  if (row.status == Status::no_effect) {
    if (!is_inert(row, value)) {
      settings.notes.push_back(
          fmt::format("{} has no effect here: {}", where(assignment, found), row.sentence));
    }
    return false;
  }
  if (row.status != Status::supported) {
    if (is_inert(row, value)) return false;
    user_error("{} is {}: {}", where(assignment, found), value.print(), row.sentence);
  }
  refuse_named(assignment, found, value);
  if (!row.field) {
    if (!is_inert(row, value)) wrong_value(assignment, found, value);
    return false;
  }
  if (value.kind == Kind::null && !row.field.takes_null) return false;
  try {
    if (row.field.read(settings, value)) return true;
  } catch (const UserError& error) {
    user_error("{}: {}", assignment.origin.place, error.what());
  }
  wrong_value(assignment, found, value);
}

/// `qlora` in place of `lora` asks for a base in 4 bits too, unless its bits are set.
std::vector<Assignment> spelled_out(std::span<const Assignment> given) {
  std::vector<Assignment> assignments(given.begin(), given.end());
  const auto names = [&](std::string_view key) {
    return std::any_of(given.begin(), given.end(), [&](const Assignment& assignment) {
      const Found found = find_setting(assignment.key);
      return found && found.row->key == key;
    });
  };
  for (Assignment& assignment : assignments) {
    const Found found = find_setting(assignment.key);
    if (!found || found.row->key != "finetuning_type" || assignment.value.text != "qlora") continue;
    assignment.value.text = "lora";
    if (names("load_in_4bit") || names("load_in_8bit")) continue;
    assignments.push_back({"load_in_4bit", RawValue::scalar("true"), assignment.origin});
    break;
  }
  return assignments;
}

/// The last assignment of each key, in the table's order of first mention.
std::vector<const Assignment*> winners(std::span<const Assignment> assignments) {
  std::map<std::string_view, const Assignment*> last;
  for (const Assignment& assignment : assignments) {
    const Found found = find_setting(assignment.key);
    if (!found) unknown_key(assignment);
    const auto [entry, fresh] = last.emplace(found.row->key, &assignment);
    if (fresh) continue;
    const Assignment& before = *entry->second;
    if (before.origin.level == assignment.origin.level && before.key != assignment.key) {
      const std::string one = normal(translate(find_setting(before.key), before.value).print());
      const std::string two = normal(translate(found, assignment.value).print());
      if (one != two) {
        user_error("{}: {}={} and {}={} are two spellings of {} with different values. Keep one.",
                   assignment.origin.place, before.key, before.value.print(), assignment.key,
                   assignment.value.print(), found.row->key);
      }
    }
    entry->second = &assignment;
  }
  std::vector<const Assignment*> result;
  result.reserve(last.size());
  for (const auto& [key, assignment] : last) result.push_back(assignment);
  return result;
}

/// A nested map in a config file: names the flat key of its first entry.
[[noreturn]] void nested(const YamlEntry& entry, const std::string& place) {
  check(!entry.value.pairs.empty(), "an empty map is a value");
  const auto& [inner, text] = entry.value.pairs.front();
  const std::string dotted = fmt::format("{}.{}", entry.key, inner);
  Found found = find_setting(dotted);
  if (!found) found = find_setting(inner.substr(inner.rfind('.') + 1));
  const auto guess = found ? std::optional(found.row->key) : nearest_setting(inner);
  user_error(
      "{}: '{}' is nested, settings are flat. {}", place, dotted,
      guess ? fmt::format("Write {}: {}", *guess, text) : "`snug help settings` lists the keys.");
}

std::vector<Assignment> assignments_of(const std::vector<YamlEntry>& entries,
                                       const std::string& name) {
  std::vector<Assignment> result;
  for (const YamlEntry& entry : entries) {
    const std::string place = fmt::format("{}:{}", name, entry.line);
    if (entry.value.kind == Kind::map && !entry.value.pairs.empty()) {
      const Found found = find_setting(entry.key);
      const bool map_is_a_value =
          found && (found.row->status != Status::supported || found.row->field.takes_map);
      if (!map_is_a_value) nested(entry, place);
    }
    result.push_back({entry.key, entry.value, {Origin::Level::file, place}});
  }
  return result;
}

}  // namespace

void apply_defaults(Settings& settings) {
  for (const Row& row : settings_table()) {
    if (!row.field || settings.origins.contains(row.key)) continue;
    const bool set =
        row.field.read(settings, RawValue::scalar(std::string(default_of(row, settings))));
    check(set, "the default of {} is not {}", row.key, row.field.expected);
  }
}

std::vector<Assignment> read_config(const std::string& path) {
  return assignments_of(read_yaml(path), path);
}

std::vector<Assignment> parse_config(const std::string& text, const std::string& name) {
  return assignments_of(parse_yaml(text, name), name);
}

Assignment from_command_line(std::string key, std::string value) {
  return {std::move(key),
          RawValue::scalar(std::move(value)),
          {Origin::Level::command_line, "command line"}};
}

Settings make_settings(std::span<const Assignment> given) {
  Settings settings;
  const std::vector<Assignment> assignments = spelled_out(given);
  for (const Assignment* assignment : winners(assignments)) {
    const Found found = find_setting(assignment->key);
    if (apply(*assignment, found, settings)) {
      settings.origins.emplace(found.row->key, assignment->origin);
    }
  }
  apply_defaults(settings);
  if (settings.precision.fp16 && settings.precision.bf16 && settings.is_set("fp16") &&
      settings.is_set("bf16")) {
    user_error("{}: fp16=true and bf16=true: weights have one type. Keep one.",
               settings.origin("fp16").place);
  }
  if (settings.precision.fp16) settings.precision.bf16 = false;
  return settings;
}

Settings default_settings() { return make_settings({}); }

void require_setting(const Settings& settings, std::string_view key, std::string_view verb) {
  const Found found = find_setting(key);
  check(found && found.row->field, "{} is no setting", key);
  if (found.row->field.print(settings) != found.row->field.print(default_settings())) return;
  const std::vector<Alias>& aliases = found.row->aliases;
  const std::string brief =
      aliases.empty() ? "" : fmt::format(" (short: {})", aliases.front().name);
  user_error("{} needs {}{}: {}", verb, key, brief, found.row->sentence);
}

}  // namespace snug
