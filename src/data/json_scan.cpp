#include "data/json_scan.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "core/json.h"

namespace snug {
namespace {

constexpr int kDeepest = 64;
constexpr std::string_view kSpace = " \t\r\n";

class Scanner {
 public:
  Scanner(std::string_view text, std::string_view where) : text_(text), where_(where) {}

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool at_end() const { return at_ >= text_.size(); }
  void skip_space() { at_ = std::min(text_.find_first_not_of(kSpace, at_), text_.size()); }

  bool take(char wanted) {
    if (at_end() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }
  void require(char wanted) {
    if (!take(wanted)) fail(fmt::format("'{}' expected", wanted));
  }
  void require_end() {
    skip_space();
    if (!at_end()) fail("text behind the JSON value");
  }

  /// A string with its quotes.
  std::string_view string() {
    const std::size_t begin = at_;
    require('"');
    while (true) {
      at_ = std::min(text_.find_first_of(kInString, at_), text_.size());
      if (at_end()) fail("a string that does not end");
      if (take('"')) return text_.substr(begin, at_ - begin);
      if (text_[at_] != '\\') fail("a control character in a string");
      if (text_.size() - at_ < 2) fail("a string that does not end");
      at_ += 2;
    }
  }

  /// One value of any kind.
  std::string_view value(int depth = 1) {
    if (depth > kDeepest) user_error("{}: JSON nested deeper than {}.", where_, kDeepest);
    skip_space();
    const std::size_t begin = at_;
    switch (peek()) {
      case '{':
        members(depth, [](std::string_view, std::string_view) {});
        break;
      case '[':
        elements(depth, [](std::string_view) {});
        break;
      case '"':
        string();
        break;
      default:
        plain();
    }
    return text_.substr(begin, at_ - begin);
  }

  template <class Each>
  void members(int depth, Each each) {
    list('{', '}', [&] {
      const std::string_view name = string();
      skip_space();
      require(':');
      each(name, value(depth + 1));
    });
  }
  template <class Each>
  void elements(int depth, Each each) {
    list('[', ']', [&] { each(value(depth + 1)); });
  }

  [[noreturn]] void fail(std::string_view reason) const {
    user_error("{}: not valid JSON: {} at byte {}{}.", where_, reason, at_ + 1, shown());
  }

 private:
  static constexpr char kControls[] =
      "\"\\\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15"
      "\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f";
  static constexpr std::string_view kInString{kControls, sizeof(kControls)};  // with the NUL

  std::string shown() const {
    if (at_end()) return ", where the text ends";
    const auto byte = static_cast<unsigned char>(text_[at_]);
    return byte < 0x20 || byte > 0x7e ? fmt::format(" (byte 0x{:02x})", byte)
                                      : fmt::format(" ('{}')", text_[at_]);
  }

  template <class Item>
  void list(char open, char close, Item item) {
    require(open);
    skip_space();
    if (take(close)) return;
    do {
      skip_space();
      item();
      skip_space();
    } while (take(','));
    require(close);
  }

  void digits() {
    if (peek() < '0' || peek() > '9') fail("a digit expected");
    while (peek() >= '0' && peek() <= '9') ++at_;
  }

  void plain() {
    for (const std::string_view word : {"true", "false", "null", "NaN", "Infinity", "-Infinity"}) {
      if (!text_.substr(at_).starts_with(word)) continue;
      at_ += word.size();
      return;
    }
    if (peek() != '-' && (peek() < '0' || peek() > '9')) fail("a value expected");
    take('-');
    if (!take('0')) digits();
    if (take('.')) digits();
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      digits();
    }
  }

  std::string_view text_;
  std::string_view where_;
  std::size_t at_ = 0;
};

std::string decoded(std::string_view quoted, std::string_view where) {
  const bool plain = std::all_of(quoted.begin(), quoted.end(), [](char letter) {
    return letter != '\\' && static_cast<unsigned char>(letter) < 0x80;
  });
  if (plain) {
    return std::string(quoted.substr(1, quoted.size() - 2));
  }
  return parse_json(quoted, where).get<std::string>();
}

}  // namespace

JsonMembers json_members(std::string_view text, std::string_view where) {
  Scanner scanner(text, where);
  scanner.skip_space();
  JsonMembers members;
  std::set<std::string, std::less<>> names;
  scanner.members(1, [&](std::string_view name, std::string_view value) {
    members.emplace_back(decoded(name, where), value);
    if (!names.insert(members.back().first).second) {
      user_error("{}: '{}' occurs twice in one JSON object.", where, members.back().first);
    }
  });
  scanner.require_end();
  return members;
}

std::vector<std::string_view> json_elements(std::string_view text, std::string_view where) {
  Scanner scanner(text, where);
  scanner.skip_space();
  std::vector<std::string_view> elements;
  scanner.elements(1, [&](std::string_view element) { elements.push_back(element); });
  scanner.require_end();
  return elements;
}

std::string_view json_kind(std::string_view value) {
  switch (value.empty() ? '\0' : value.front()) {
    case '{':
      return "an object";
    case '[':
      return "a list";
    case '"':
      return "text";
    case 't':
    case 'f':
      return "true or false";
    case 'n':
      return "null";
    default:
      return "a number";
  }
}

}  // namespace snug
