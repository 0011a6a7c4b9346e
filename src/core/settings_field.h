#pragma once
// Ties rows of the settings table to members of Settings. Included by the table's files only.

#include <fmt/format.h>

#include <cmath>

#include "core/settings_table.h"

namespace snug {

constexpr Range kAnyNumber = {};
constexpr Range kPositive = {0, std::numeric_limits<double>::infinity(), true};
constexpr Range kNotNegative = {0, std::numeric_limits<double>::infinity(), false};
constexpr Range kAtLeastOne = {1, std::numeric_limits<double>::infinity(), false};

/// The number that a Range is held against; none for types without one.
inline std::optional<double> magnitude(double value) { return value; }
inline std::optional<double> magnitude(std::int64_t value) { return static_cast<double>(value); }
inline std::optional<double> magnitude(CountOrShare value) { return value.value; }
inline std::optional<double> magnitude(Duration value) { return value.seconds; }
inline std::optional<double> magnitude(Bytes value) { return static_cast<double>(value.count); }
template <class T>
std::optional<double> magnitude(const T&) {
  return std::nullopt;
}

inline bool within(const Range& range, std::optional<double> number) {
  if (!number) return true;
  return (range.exclusive ? *number > range.lowest : *number >= range.lowest) &&
         *number <= range.highest;
}

/// ` of at least 1`, ` above 0 and at most 1`; limits of sizes as sizes.
inline std::string describe(const Range& range, bool is_size) {
  if (!std::isfinite(range.lowest)) return "";
  const auto text = [is_size](double limit) {
    return is_size ? exact_bytes({static_cast<std::int64_t>(limit)}) : fmt::format("{}", limit);
  };
  std::string result =
      fmt::format(" {} {}", range.exclusive ? "above" : "of at least", text(range.lowest));
  if (std::isfinite(range.highest)) result += " and at most " + text(range.highest);
  return result;
}

/// What a type says about itself, the value of an optional for that optional.
template <class T>
void describe_type(Field& field, const Range& range) {
  field.is_size = std::is_same_v<T, Bytes>;
  field.expected = expected_of(T{}) + describe(range, field.is_size);
  field.takes_list = std::is_same_v<T, std::vector<std::string>>;
  field.takes_map = std::is_same_v<T, SchedulerArguments> || std::is_same_v<T, NamedNumbers> ||
                    std::is_same_v<T, ColumnNames>;
  field.is_switch = std::is_same_v<T, bool> || std::is_same_v<T, RecomputeOptions>;
  if constexpr (std::is_enum_v<T>) {
    for (const auto& entry : enum_names(T{})) field.choices.push_back(entry.name);
  }
}

/// `settings.*part.*member`, of a type that settings_value.h reads.
template <class Part, class T>
Field field(Part Settings::* part, T Part::* member, Range range = kAnyNumber) {
  Field result;
  result.read = [part, member, range](Settings& settings, const RawValue& raw) {
    T value{};
    if (!read_value(raw, value) || !within(range, magnitude(value))) return false;
    settings.*part.*member = std::move(value);
    return true;
  };
  result.print = [part, member](const Settings& settings) {
    return print_value(settings.*part.*member);
  };
  describe_type<T>(result, range);
  return result;
}

/// An optional member; `absent` (auto, none) is the text of nullopt.
template <class Part, class T>
Field field(Part Settings::* part, std::optional<T> Part::* member, std::string_view absent,
            Range range = kAnyNumber) {
  Field result;
  result.read = [part, member, absent, range](Settings& settings, const RawValue& raw) {
    const bool none =
        raw.kind == RawValue::Kind::null ||
        (raw.kind == RawValue::Kind::scalar &&
         (raw.text == absent || (absent == "none" && (raw.text == "None" || raw.text == "null"))));
    if (none) {
      (settings.*part.*member).reset();
      return true;
    }
    T value{};
    if (!read_value(raw, value) || !within(range, magnitude(value))) return false;
    settings.*part.*member = std::move(value);
    return true;
  };
  result.print = [part, member, absent](const Settings& settings) {
    const auto& value = settings.*part.*member;
    return value ? print_value(*value) : std::string(absent);
  };
  describe_type<T>(result, range);
  result.expected += fmt::format(", or {}", absent);
  result.takes_null = absent == "none";
  return result;
}

/// A whole technique: the part of Settings itself.
template <class Part>
Field field(Part Settings::* part) {
  Field result;
  result.read = [part](Settings& settings, const RawValue& raw) {
    return read_value(raw, settings.*part);
  };
  result.print = [part](const Settings& settings) { return print_value(settings.*part); };
  describe_type<Part>(result, kAnyNumber);
  return result;
}

}  // namespace snug
