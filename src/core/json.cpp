#include "core/json.h"

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"

namespace snug {

nlohmann::json parse_json(std::string_view text, std::string_view where) {
  using Json = nlohmann::json;
  constexpr int kDeepest = 64;
  std::vector<std::set<std::string>> names;  // of the objects that are open
  const auto visit = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kDeepest) user_error("{}: JSON nested deeper than {}.", where, kDeepest);
    if (event == Json::parse_event_t::object_start) names.emplace_back();
    if (event == Json::parse_event_t::object_end) names.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& name = parsed.get_ref<const std::string&>();
      if (!names.back().insert(name).second) {
        user_error("{}: '{}' occurs twice in one JSON object.", where, name);
      }
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), visit);
  } catch (const Json::exception& error) {
    // The library's texts begin with a tag in brackets.
    std::string_view reason = error.what();
    if (const auto tag = reason.find("] "); tag != reason.npos) reason.remove_prefix(tag + 2);
    user_error("{}: not valid JSON: {}.", where, reason);
  }
}

}  // namespace snug
