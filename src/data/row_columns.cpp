#include "data/row_columns.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"

namespace snug {
namespace {

/// The layouts' name of a column, empty where another column was given that name.
std::string canonical(const std::string& name, const DataSettings& settings) {
  std::string result = name;
  if (settings.text_field != "text") {
    if (name == settings.text_field) return "text";
    if (name == "text") result.clear();
  }
  for (const auto& [ours, theirs] : settings.columns.names) {
    if (theirs == name) return ours;
    if (ours == name) result.clear();
  }
  return result;
}

}  // namespace

RowColumns::RowColumns(std::string_view json, std::string_view place, const DataSettings& settings)
    : place_(place) {
  for (auto& [name, value] : json_members(json, place)) {
    std::string ours = canonical(name, settings);
    if (!ours.empty() && !is_json_null(value)) members_.emplace_back(std::move(ours), value);
  }
}

std::optional<std::string_view> RowColumns::find(std::string_view name) const {
  const auto it = std::find_if(members_.begin(), members_.end(),
                               [&](const auto& member) { return member.first == name; });
  return it == members_.end() ? std::nullopt : std::optional(it->second);
}

bool RowColumns::is_list(std::string_view name) const {
  const auto value = find(name);
  return value && value->starts_with('[');
}

bool RowColumns::is_bool(std::string_view name) const {
  const auto value = find(name);
  return value && (*value == "true" || *value == "false");
}

void RowColumns::wrong_type(std::string_view name, std::string_view expected) const {
  user_error("{}: '{}' is {}, expected {}.", place_, name, json_kind(*find(name)), expected);
}

std::string RowColumns::text(std::string_view name) const {
  const auto value = find(name);
  if (!value) user_error("{}: '{}' is missing.", place_, name);
  if (!value->starts_with('"')) wrong_type(name, "text");
  return json_text(*value, place_);
}

std::string RowColumns::text_or_empty(std::string_view name) const {
  return has(name) ? text(name) : std::string();
}

std::vector<std::int32_t> RowColumns::integers(std::string_view name) const {
  if (!is_list(name)) wrong_type(name, "a list of integers");
  const nlohmann::json list = parse_json(*find(name), place_);
  std::vector<std::int32_t> result;
  result.reserve(list.size());
  for (const nlohmann::json& item : list) {
    if (item.is_boolean()) {
      result.push_back(item.get<bool>() ? 1 : 0);
      continue;
    }
    const bool fits = item.is_number_integer() && item.get<double>() >= -2147483648.0 &&
                      item.get<double>() <= 2147483647.0;
    if (!fits) {
      user_error("{}: '{}' holds {} at position {}, expected a 32-bit integer.", place_, name,
                 item.dump(), result.size());
    }
    result.push_back(item.get<std::int32_t>());
  }
  return result;
}

std::string RowColumns::names() const {
  std::string names;
  for (const auto& [name, value] : members_) names += (names.empty() ? "" : ", ") + name;
  return names;
}

std::string json_text(std::string_view raw, std::string_view where) {
  const nlohmann::json value = parse_json(raw, where);
  if (!value.is_string()) user_error("{}: {} is {}, expected text.", where, raw, json_kind(raw));
  return value.get<std::string>();
}

}  // namespace snug
