#include "core/json.h"

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"

namespace snug {
namespace {

using Json = nlohmann::json;

// The first name that occurs twice in one object of a well-formed text.
std::string name_of_twins(std::string_view text) {
  std::vector<std::set<std::string>> names;  // of the objects that are open
  std::string twin;
  const auto visit = [&](int /*depth*/, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) names.emplace_back();
    if (event == Json::parse_event_t::object_end) names.pop_back();
    if (event == Json::parse_event_t::key && twin.empty()) {
      const auto& name = parsed.get_ref<const std::string&>();
      if (!names.back().insert(name).second) twin = name;
    }
    return true;
  };
  [[maybe_unused]] const Json parsed = Json::parse(text.begin(), text.end(), visit);
  return twin;
}

}  // namespace

nlohmann::json parse_json(std::string_view text, std::string_view where) {
  constexpr int kDeepest = 64;
  // The library takes a NUL byte for the text's end.
  if (const std::size_t nul = text.find('\0'); nul != text.npos) {
    user_error("{}: not valid JSON: byte {} is NUL (a damaged or half-written file?).", where,
               nul + 1);
  }
  std::vector<size_t> names;  // how many each open object has had
  bool twins = false;
  const auto visit = [&](int depth, Json::parse_event_t event, const Json& parsed) {
    if (depth > kDeepest) user_error("{}: JSON nested deeper than {}.", where, kDeepest);
    if (event == Json::parse_event_t::object_start) names.push_back(0);
    if (event == Json::parse_event_t::key) ++names.back();
    if (event == Json::parse_event_t::object_end) {
      twins = twins || parsed.size() != names.back();  // twins share one member
      names.pop_back();
    }
    return true;
  };
  try {
    Json parsed = Json::parse(text.begin(), text.end(), visit);
    if (twins) {
      user_error("{}: '{}' occurs twice in one JSON object.", where, name_of_twins(text));
    }
    return parsed;
  } catch (const Json::exception& error) {
    // The library's texts begin with a tag in brackets.
    std::string_view reason = error.what();
    if (const auto tag = reason.find("] "); tag != reason.npos) reason.remove_prefix(tag + 2);
    user_error("{}: not valid JSON: {}.", where, reason);
  }
}

}  // namespace snug
