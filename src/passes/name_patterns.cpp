#include "passes/name_patterns.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>

#include "core/error.h"

namespace snug {
namespace {

struct FreeMatch {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};

PCRE2_SPTR bytes_of(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

std::string message_of(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

void NamePattern::Free::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

NamePattern::NamePattern(const std::string& text, std::string_view key) : text_(text), key_(key) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_.reset(pcre2_compile(bytes_of(text), text.size(), 0, &error, &offset, nullptr));
  if (code_) return;
  user_error("{}: '{}' is no regular expression: {} at character {}.", key, text, message_of(error),
             offset + 1);
}

bool NamePattern::matches(std::string_view name) const {
  return match(name, PCRE2_ANCHORED | PCRE2_ENDANCHORED);
}

bool NamePattern::found_in(std::string_view name) const { return match(name, 0); }

bool NamePattern::match(std::string_view name, std::uint32_t options) const {
  const std::unique_ptr<pcre2_match_data, FreeMatch> data(pcre2_match_data_create(1, nullptr));
  if (!data) throw std::bad_alloc();
  const int found =
      pcre2_match(code_.get(), bytes_of(name), name.size(), 0, options, data.get(), nullptr);
  if (found < 0 && found != PCRE2_ERROR_NOMATCH) {
    user_error("{}: '{}' cannot be matched with {}: {}.", key_, text_, name, message_of(found));
  }
  return found >= 0;
}

bool is_expression(std::string_view text) {
  return text.find_first_of("*+?()[]{}|^$\\") != std::string_view::npos;
}

bool is_module(const std::string& name, const std::string& wanted, std::string_view key) {
  if (is_expression(wanted)) return NamePattern(wanted, key).matches(name);
  return name == wanted || name.ends_with("." + wanted);
}

std::string last_parts(const std::string& name) {
  constexpr std::string_view kLayers = ".layers.";
  const std::size_t layers = name.find(kLayers);
  if (layers == std::string::npos) return name;
  return name.substr(name.find('.', layers + kLayers.size()) + 1);
}

std::string distinct_names(std::vector<std::string> names) {
  std::string text;
  std::vector<std::string> seen;
  for (std::string& name : names) {
    if (std::find(seen.begin(), seen.end(), name) != seen.end()) continue;
    text += (text.empty() ? "" : ", ") + name;
    seen.push_back(std::move(name));
  }
  return text;
}

}  // namespace snug
