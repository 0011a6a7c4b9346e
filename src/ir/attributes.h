#pragma once
// The constant arguments of a node, in the order they were set.

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/dtype.h"

namespace snug {

using AttributeValue = std::variant<std::int64_t, double, std::string>;

class Attributes {
 public:
  Attributes() = default;
  Attributes(std::initializer_list<std::pair<std::string, AttributeValue>> items) : items_(items) {}

  bool has(std::string_view key) const { return find(key) != nullptr; }
  /// The value of `key`; InternalError when it is absent or of another type.
  std::int64_t integer(std::string_view key) const;
  double real(std::string_view key) const;
  const std::string& text(std::string_view key) const;
  DType dtype(std::string_view key = "dtype") const;
  std::int64_t integer_or(std::string_view key, std::int64_t fallback) const;
  double real_or(std::string_view key, double fallback) const;
  /// Sets `key`, replacing an earlier value in place.
  void set(std::string_view key, AttributeValue value);
  void erase(std::string_view key);
  std::span<const std::pair<std::string, AttributeValue>> items() const { return items_; }
  friend bool operator==(const Attributes&, const Attributes&) = default;

 private:
  const AttributeValue* find(std::string_view key) const;
  std::vector<std::pair<std::string, AttributeValue>> items_;
};

}  // namespace snug
