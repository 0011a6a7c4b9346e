#include "core/settings_load.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/text.h"

namespace snug {
namespace {

using Kind = RawValue::Kind;

constexpr const char* kWhereKeysAre = "`snug help all` lists the keys.";

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
  if (value.kind != Kind::scalar) return value;
  const auto on = parse_bool(value.text);
  const auto& spellings = found.alias == nullptr ? found.row->values : found.alias->values;
  for (const auto& [from, to] : spellings) {
    if (value.text != from && !(on && parse_bool(from) == on)) continue;
    return to == "null" ? RawValue{Kind::null, {}, {}, {}, false}
                        : RawValue::scalar(std::string(to));
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

std::string unknown_key(const Assignment& assignment) {
  const auto guess = nearest_setting(assignment.key);
  return fmt::format("{}: unknown key '{}'. {}", assignment.origin.place, assignment.key,
                     guess ? fmt::format("Did you mean {}?", *guess) : kWhereKeysAre);
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

/// `8` and `8G` as sizes that say what they count in.
std::optional<std::string> size_meant(std::string_view text) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  const std::string_view number = text.substr(0, digits);
  const std::string_view unit = text.substr(digits);
  if (!parse_number(number) || unit.size() > 1) return std::nullopt;
  if (unit.empty()) return fmt::format("A number alone counts bytes. Did you mean {}GiB?", number);
  const auto letter = static_cast<char>(std::toupper(static_cast<unsigned char>(unit.front())));
  const std::string binary = fmt::format("{}{}iB", number, letter);
  const std::string decimal = fmt::format("{}{}B", number, letter);
  const auto one = parse_bytes(binary);
  const auto two = parse_bytes(decimal);
  if (!one || !two) return std::nullopt;
  return fmt::format("Did you mean {} ({} bytes) or {} ({} bytes)?", binary,
                     group_digits(one->count), decimal, group_digits(two->count));
}

[[noreturn]] void wrong_value(const Assignment& assignment, const Found& found,
                              const RawValue& value) {
  const Row& row = *found.row;
  std::string guess;
  if (const auto choice = nearest(value.text, row.field.choices)) {
    guess = fmt::format(" Did you mean {}?", *choice);
  } else if (const auto size = size_meant(value.text); size && row.field.is_size) {
    guess = " " + *size;
  }
  user_error("{} is {}, expected {}.{}", where(assignment, found), value.print(),
             row.field ? row.field.expected : std::string(row.initial.full), guess);
}

bool reads_as_null(const RawValue& value) {
  return value.kind == Kind::null || (value.kind == Kind::scalar && normal(value.text) == "null");
}

/// Sets a row's field; returns whether it now has a value of its own.
bool apply_field(const Assignment& assignment, const Found& found, const RawValue& value,
                 Settings& settings) {
  const Row& row = *found.row;
  if (value.kind == Kind::null && !row.field.takes_null) return false;
  if (value.kind == Kind::scalar && !row.inert.empty() && is_inert(row, value)) return false;
  bool read = false;
  try {
    read = row.field.read(settings, value);
  } catch (const UserError& error) {
    user_error("{}: {}", assignment.origin.place, error.what());
  }
  if (!read && !reads_as_null(value)) wrong_value(assignment, found, value);
  return read;
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
  if (row.field) return apply_field(assignment, found, value, settings);
  if (!is_inert(row, value)) wrong_value(assignment, found, value);
  return false;
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

/// Two assignments of one key at one level under different names must agree.
void check_spellings(const Assignment& before, const Assignment& now, ErrorList& errors) {
  if (before.origin.level != now.origin.level || before.key == now.key) return;
  const Found found = find_setting(now.key);
  const std::string one = normal(translate(find_setting(before.key), before.value).print());
  const std::string two = normal(translate(found, now.value).print());
  if (one == two) return;
  errors.add(
      fmt::format("{}: {}={} and {}={} are two spellings of {} with different values. Keep one.",
                  now.origin.place, before.key, before.value.print(), now.key, now.value.print(),
                  found.row->key));
}

/// The last assignment of each key, in the order written. A key that sets nothing here is judged
/// under each of its names; null never stands against a value at its level.
std::vector<const Assignment*> winners(std::span<const Assignment> assignments, ErrorList& errors) {
  std::map<std::string_view, const Assignment*> last;
  for (const Assignment& assignment : assignments) {
    const Found found = find_setting(assignment.key);
    if (!found) {
      errors.add(unknown_key(assignment));
      continue;
    }
    const bool sets = found.row->status == Status::supported;
    const std::string_view name = sets ? found.row->key : std::string_view(assignment.key);
    const auto [entry, fresh] = last.emplace(name, &assignment);
    if (fresh) continue;
    const Assignment& before = *entry->second;
    const bool same_level = before.origin.level == assignment.origin.level;
    const bool is_null = reads_as_null(translate(found, assignment.value));
    const bool was_null = reads_as_null(translate(find_setting(before.key), before.value));
    if (same_level && before.key != assignment.key && is_null) continue;
    if (!was_null) check_spellings(before, assignment, errors);
    entry->second = &assignment;
  }
  std::vector<const Assignment*> result;
  result.reserve(last.size());
  for (const auto& [key, assignment] : last) result.push_back(assignment);
  std::sort(result.begin(), result.end());
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
  user_error("{}: '{}' is nested, settings are flat. {}", place, dotted,
             guess ? fmt::format("Write {}: {}", *guess, text) : kWhereKeysAre);
}

std::vector<Assignment> assignments_of(const std::vector<YamlEntry>& entries,
                                       const std::string& name, ErrorList& errors) {
  std::vector<Assignment> result;
  for (const YamlEntry& entry : entries) {
    const std::string place = fmt::format("{}:{}", name, entry.line);
    if (entry.value.kind == Kind::map && !entry.value.pairs.empty()) {
      const Found found = find_setting(entry.key);
      const bool map_is_a_value =
          found && (found.row->status != Status::supported || found.row->field.takes_map);
      if (!map_is_a_value) {
        errors.attempt([&] { nested(entry, place); });
        continue;
      }
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

std::vector<Assignment> read_config(const std::string& path, ErrorList& errors) {
  return assignments_of(read_yaml(path, errors), path, errors);
}

std::vector<Assignment> read_config(const std::string& path) {
  ErrorList errors;
  std::vector<Assignment> assignments = read_config(path, errors);
  errors.raise();
  return assignments;
}

std::vector<Assignment> parse_config(const std::string& text, const std::string& name) {
  ErrorList errors;
  std::vector<Assignment> assignments =
      assignments_of(parse_yaml(text, name, errors), name, errors);
  errors.raise();
  return assignments;
}

Assignment from_command_line(std::string key, std::string value) {
  return {std::move(key),
          RawValue::scalar(std::move(value)),
          {Origin::Level::command_line, "command line"}};
}

Settings make_settings(std::span<const Assignment> given, ErrorList& errors) {
  Settings settings;
  const std::vector<Assignment> assignments = spelled_out(given);
  for (const Assignment* assignment : winners(assignments, errors)) {
    const Found found = find_setting(assignment->key);
    Origin origin = assignment->origin;
    bool set = true;
    const bool good = errors.attempt([&] { set = apply(*assignment, found, settings); });
    if (!good) origin.level = Origin::Level::by_default;
    if (set) settings.origins.emplace(found.row->key, origin);
  }
  apply_defaults(settings);
  if (settings.precision.fp16 && settings.precision.bf16 && settings.is_set("fp16") &&
      settings.is_set("bf16")) {
    errors.add(fmt::format("{}: fp16=true and bf16=true: weights have one type. Keep one.",
                           settings.origin("fp16").place));
  }
  if (settings.precision.fp16) settings.precision.bf16 = false;
  return settings;
}

Settings make_settings(std::span<const Assignment> given) {
  ErrorList errors;
  Settings settings = make_settings(given, errors);
  errors.raise();
  return settings;
}

Settings default_settings() { return make_settings({}); }

void require_setting(const Settings& settings, std::span<const std::string_view> keys,
                     std::string_view verb) {
  const Settings plain = default_settings();
  std::string others;
  for (const std::string_view key : keys) {
    const Found found = find_setting(key);
    check(found && found.row->field, "{} is no setting", key);
    if (found.row->field.print(settings) != found.row->field.print(plain)) return;
    if (key != keys.front()) others += fmt::format(" or {}", key);
  }
  const Row& row = *find_setting(keys.front()).row;
  const std::string brief =
      row.aliases.empty() ? "" : fmt::format(" (short: {})", row.aliases.front().name);
  user_error("{} needs {}{}{}: {}", verb, row.key, brief, others, row.sentence);
}

}  // namespace snug
