// Spells an Oniguruma expression for PCRE2. One walk over the characters; the only state is where
// the last atom began, which `a{1,3}+` needs.
#include <cctype>

#include "core/error.h"
#include "data/tokenizer/pattern.h"
#include "data/tokenizer/utf8.h"

namespace snug {
namespace {

// Insides of character classes: White_Space and its complement, Word and hexadecimal digits.
constexpr std::string_view kSpace =
    R"(\x{09}-\x{0D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr std::string_view kNotSpace =
    R"(\x{00}-\x{08}\x{0E}-\x{1F}\x{21}-\x{84}\x{86}-\x{9F}\x{A1}-\x{167F}\x{1681}-\x{1FFF})"
    R"(\x{200B}-\x{2027}\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{10FFFF})";
constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
// Outside a class Oniguruma takes Latin-1's superscripts and fractions for word characters too.
constexpr std::string_view kLoneWord =
    R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE})";
constexpr std::string_view kHex = "0-9A-Fa-f";

class Translator {
 public:
  Translator(std::string_view expression, const JsonView& where) : in_(expression), where_(where) {}

  std::string run() {
    while (at_ < in_.size()) step();
    return std::move(out_);
  }

 private:
  char here() const { return in_[at_]; }
  bool next_is(std::string_view text) const { return in_.substr(at_).starts_with(text); }
  void copy(size_t bytes) {
    out_ += in_.substr(at_, bytes);
    at_ += bytes;
  }

  void step() {
    switch (here()) {
      case '\\':
        atom_ = out_.size();
        return escape(false);
      case '[':
        atom_ = out_.size();
        return char_class();
      case '(':
        open_.push_back(out_.size());
        return copy(1);
      case ')':
        if (!open_.empty()) {
          atom_ = open_.back();
          open_.pop_back();
        }
        return copy(1);
      case '{':
        return interval();
      case '*':
      case '+':
      case '?':
      case '|':
        return copy(1);
      default:
        atom_ = out_.size();
        copy(utf8_char(in_, at_).size);
    }
  }

  void set(std::string_view inside, bool negated, bool in_class) {
    if (in_class) {
      out_ += inside;
    } else {
      out_ += negated ? "[^" : "[";
      out_ += inside;
      out_ += ']';
    }
    at_ += 2;
  }

  void escape(bool in_class) {
    if (at_ + 1 == in_.size()) return copy(1);
    const char letter = in_[at_ + 1];
    switch (letter) {
      case 's':
        return set(kSpace, false, in_class);
      case 'S':
        return in_class ? set(kNotSpace, false, true) : set(kSpace, true, false);
      case 'w':
        return set(in_class ? kWord : kLoneWord, false, in_class);
      case 'h':
        return set(kHex, false, in_class);
      case 'W':
      case 'H':
        if (in_class) where_.fail(fmt::format("has \\{} in a character class.", letter));
        return set(letter == 'W' ? kLoneWord : kHex, true, false);
      case 'u':
        if (is_hex(at_ + 2, 4)) {
          out_ += fmt::format("\\x{{{}}}", in_.substr(at_ + 2, 4));
          at_ += 6;
          return;
        }
        [[fallthrough]];
      default:
        // \p{..}, \x{..} and the like go on as they are.
        copy(1);
        copy(utf8_char(in_, at_).size);
        if (at_ < in_.size() && here() == '{' &&
            std::string_view("pPxko").find(letter) != std::string_view::npos) {
          const size_t close = in_.find('}', at_);
          copy(close == std::string_view::npos ? in_.size() - at_ : close - at_ + 1);
        }
    }
  }

  bool is_hex(size_t from, size_t count) const {
    if (from + count > in_.size()) return false;
    for (size_t i = from; i < from + count; ++i) {
      if (std::isxdigit(static_cast<unsigned char>(in_[i])) == 0) return false;
    }
    return true;
  }

  void char_class() {
    copy(1);
    if (at_ < in_.size() && here() == '^') copy(1);
    if (at_ < in_.size() && here() == ']') copy(1);
    while (at_ < in_.size() && here() != ']') {
      if (here() == '\\') {
        escape(true);
      } else if (next_is("[:")) {
        const size_t close = in_.find(":]", at_);
        copy(close == std::string_view::npos ? 1 : close - at_ + 2);
      } else if (here() == '[' || next_is("&&")) {
        where_.fail("has a nested set or '&&' in a character class, which snug does not read.");
      } else {
        copy(utf8_char(in_, at_).size);
      }
    }
    if (at_ < in_.size()) copy(1);
  }

  // {n}, {n,}, {n,m} or {,m}; anything else is a literal brace.
  void interval() {
    const size_t close = in_.find_first_not_of("0123456789,", at_ + 1);
    const bool counts = close != std::string_view::npos && in_[close] == '}' && close > at_ + 1 &&
                        in_.substr(at_, close - at_) != "{,";
    if (!counts) {
      atom_ = out_.size();
      out_ += '\\';
      return copy(1);
    }
    copy(1);
    if (here() == ',') out_ += '0';
    copy(close - at_ + 1);
    if (at_ < in_.size() && here() == '+') {
      out_.insert(atom_, "(?:");
      out_ += ')';
    }
  }

  std::string_view in_;
  const JsonView& where_;
  std::string out_;
  size_t at_ = 0;
  size_t atom_ = 0;           // where the last atom begins in out_
  std::vector<size_t> open_;  // where the open groups begin in out_
};

}  // namespace

std::string pcre2_from_oniguruma(std::string_view expression, const JsonView& where) {
  return Translator(expression, where).run();
}

}  // namespace snug
