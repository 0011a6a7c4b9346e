// The checks between keys.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/settings_load.h"

namespace snug {
namespace {

bool asks_for_nothing(std::string_view printed) {
  constexpr std::array kNothing = {"false", "0", "[]", "{}", "null", "none", "no", "auto", "\"\""};
  return std::find(kNothing.begin(), kNothing.end(), printed) != kNothing.end();
}

std::string printed(std::string_view key, const Settings& settings) {
  const Found found = find_setting(key);
  check(found && found.row->field && found.alias == nullptr, "{} is no key with a value", key);
  return found.row->field.print(settings);
}

bool holds(const KeyIs& look, const Settings& settings) {
  const std::string value = printed(look.key, settings);
  const bool among = std::find(look.values.begin(), look.values.end(), value) != look.values.end();
  return among != look.but;
}

/// Somebody gave the other key a value that says something, which then decides.
bool decided(const KeyIs& look, const Settings& settings) {
  return settings.is_set(look.key) && !asks_for_nothing(printed(look.key, settings));
}

/// `finetuning_type=lora`, `eval_file`, `max_steps=-1`.
std::string describe(const KeyIs& look) {
  const bool nothing = std::all_of(look.values.begin(), look.values.end(),
                                   [](auto v) { return asks_for_nothing(v); });
  if (look.but) {
    return nothing ? std::string(look.key)
                   : fmt::format("{} other than {}", look.key, fmt::join(look.values, ", "));
  }
  std::string text;
  for (const std::string_view value : look.values) {
    text += fmt::format("{}{}={}", text.empty() ? "" : " or ", look.key, value);
  }
  return text;
}

bool is_default(const Row& row, const Settings& settings) {
  Settings plain = settings;
  row.field.read(plain, RawValue::scalar(std::string(default_of(row, settings))));
  return row.field.print(plain) == row.field.print(settings);
}

}  // namespace

std::string describe(const Need& need) {
  std::string text;
  for (const KeyIs& look : need.any) text += (text.empty() ? "" : " or ") + describe(look);
  return text;
}

namespace {

/// What a key's value comes to nothing for, if anything.
void check_need(const Row& row, const Need& need, Settings& settings, ErrorList& errors) {
  const auto any_of = [&](auto&& f) {
    return std::any_of(need.any.begin(), need.any.end(),
                       [&](const KeyIs& look) { return f(look, settings); });
  };
  if (any_of(holds)) return;
  const std::string place = settings.origin(row.key).place;
  if (need.strict && !any_of(decided)) {
    errors.add(fmt::format("{}: {}={} has no effect without {}. Add that, or leave {} out.", place,
                           row.key, row.field.print(settings), describe(need), row.key));
  } else if (!is_default(row, settings)) {
    settings.notes.push_back(
        fmt::format("{}: {} has no effect without {}.", place, row.key, describe(need)));
  }
}

}  // namespace

void check_settings(Settings& settings, ErrorList& errors) {
  for (const Row& row : settings_table()) {
    if (!row.field || !row.only_with) continue;
    // A key that an error was found with keeps the default's level.
    if (settings.origin(row.key).level == Origin::Level::by_default) continue;
    if (asks_for_nothing(row.field.print(settings))) continue;
    for (const Need& need : *row.only_with) check_need(row, need, settings, errors);
  }
  errors.attempt([&] { resolve_batch(settings); });
}

}  // namespace snug
