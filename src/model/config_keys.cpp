#include "model/config_keys.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/error.h"
#include "core/text.h"
#include "model/config_families.h"

namespace snug {
namespace {

using Json = nlohmann::json;

/// The value as a message shows it, cut to a line. Strings are valid UTF-8: the parser saw to it.
std::string shown(const Json& value) {
  constexpr std::size_t kLongest = 60;
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true);
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

}  // namespace

ConfigKeys::ConfigKeys(const Json& object, std::string_view where, std::string_view prefix)
    : object_(object), where_(where), prefix_(prefix) {
  if (!object.is_object()) {
    if (prefix.empty()) user_error("{}: expected a JSON object.", where);
    prefix.remove_suffix(1);
    user_error("{}: '{}' is {}, expected an object.", where, prefix, shown(object));
  }
}

std::string ConfigKeys::at(std::string_view key) const {
  return fmt::format("{}: '{}{}'", where_, prefix_, key);
}

const Json* ConfigKeys::find(std::string_view key) {
  known_.emplace(key);
  const auto found = object_.find(key);
  return found == object_.end() ? nullptr : &*found;
}

bool ConfigKeys::has(std::string_view key) {
  const Json* value = find(key);
  return value != nullptr && !value->is_null();
}

std::int64_t ConfigKeys::size(std::string_view key, std::int64_t absent, std::int64_t most,
                              std::int64_t least) {
  const Json* value = find(key);
  if (value == nullptr) return absent;
  if (!value->is_number_integer())
    user_error("{} is {}, expected an integer.", at(key), shown(*value));
  // An integer beyond int64 is stored unsigned; it is above every limit.
  const bool too_large =
      value->is_number_unsigned() && value->get<std::uint64_t>() > static_cast<std::uint64_t>(most);
  if (!too_large && value->get<std::int64_t>() < least) {
    user_error("{} is {}, expected at least {}.", at(key), shown(*value), least);
  }
  if (too_large) user_error("{} is {}; snug's limit is {}.", at(key), shown(*value), most);
  return value->get<std::int64_t>();
}

std::int64_t ConfigKeys::size_or_null(std::string_view key, std::int64_t absent, std::int64_t null,
                                      std::int64_t most) {
  const Json* value = find(key);
  if (value != nullptr && value->is_null()) return null;
  return size(key, absent, most);
}

double ConfigKeys::positive(std::string_view key, double absent) {
  const Json* value = find(key);
  if (value == nullptr) return absent;
  if (!value->is_number()) user_error("{} is {}, expected a number.", at(key), shown(*value));
  const auto number = value->get<double>();
  if (!(number > 0)) user_error("{} is {}, expected a number above 0.", at(key), shown(*value));
  return number;
}

double ConfigKeys::required_positive(std::string_view key) {
  if (!has(key)) user_error("{} is missing.", at(key));
  return positive(key, 0);
}

bool ConfigKeys::flag(std::string_view key, bool absent) {
  const Json* value = find(key);
  if (value == nullptr) return absent;
  if (!value->is_boolean()) {
    user_error("{} is {}, expected true or false.", at(key), shown(*value));
  }
  return value->get<bool>();
}

std::string ConfigKeys::text(std::string_view key) {
  const Json* value = find(key);
  if (value == nullptr) user_error("{} is missing.", at(key));
  if (!value->is_string()) user_error("{} is {}, expected a text.", at(key), shown(*value));
  return value->get<std::string>();
}

void ConfigKeys::finish(std::string_view model_type) const {
  for (const auto& [key, value] : object_.items()) {
    if (known_.contains(key) || is_ignored_key(key)) continue;
    if (const auto neutral = neutral_key(key)) {
      const Json values = Json::parse(neutral->values);
      if (std::find(values.begin(), values.end(), value) != values.end()) continue;
      user_error("{} is {}; for model_type '{}' snug supports only {}.", at(key), shown(value),
                 model_type, shown(values[0]));
    }
    const std::vector<std::string_view> candidates(known_.begin(), known_.end());
    const auto near = nearest(key, candidates);
    user_error(
        "{} is not known for model_type '{}' and may change the model's arithmetic.{} Delete it "
        "only if it does not.",
        at(key), model_type, near ? fmt::format(" Did you mean {}?", *near) : "");
  }
}

}  // namespace snug
