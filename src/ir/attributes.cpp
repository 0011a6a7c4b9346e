#include "ir/attributes.h"

#include <algorithm>

namespace snug {

const AttributeValue* Attributes::find(std::string_view key) const {
  for (const auto& [name, value] : items_) {
    if (name == key) return &value;
  }
  return nullptr;
}

std::int64_t Attributes::integer(std::string_view key) const {
  const AttributeValue* value = find(key);
  check(value != nullptr, "attribute '{}' is missing", key);
  const auto* number = std::get_if<std::int64_t>(value);
  check(number != nullptr, "attribute '{}' is not an integer", key);
  return *number;
}

double Attributes::real(std::string_view key) const {
  const AttributeValue* value = find(key);
  check(value != nullptr, "attribute '{}' is missing", key);
  if (const auto* number = std::get_if<std::int64_t>(value)) return static_cast<double>(*number);
  const auto* number = std::get_if<double>(value);
  check(number != nullptr, "attribute '{}' is not a number", key);
  return *number;
}

const std::string& Attributes::text(std::string_view key) const {
  const AttributeValue* value = find(key);
  check(value != nullptr, "attribute '{}' is missing", key);
  const auto* text = std::get_if<std::string>(value);
  check(text != nullptr, "attribute '{}' is not a text", key);
  return *text;
}

DType Attributes::dtype(std::string_view key) const {
  const auto type = dtype_from_name(text(key));
  check(type.has_value(), "attribute '{}' is no dtype: '{}'", key, text(key));
  return *type;
}

std::int64_t Attributes::integer_or(std::string_view key, std::int64_t fallback) const {
  return has(key) ? integer(key) : fallback;
}

double Attributes::real_or(std::string_view key, double fallback) const {
  return has(key) ? real(key) : fallback;
}

void Attributes::set(std::string_view key, AttributeValue value) {
  for (auto& [name, old] : items_) {
    if (name == key) {
      old = std::move(value);
      return;
    }
  }
  items_.emplace_back(key, std::move(value));
}

void Attributes::erase(std::string_view key) {
  std::erase_if(items_, [key](const auto& item) { return item.first == key; });
}

}  // namespace snug
