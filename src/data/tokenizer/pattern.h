#pragma once
// What a tokenizer file searches text for: a literal, or a regular expression in Oniguruma's
// dialect (the one the `tokenizers` package uses), run by PCRE2.

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/json_view.h"

namespace snug {

/// Bytes [begin, end) of a text.
struct TextRange {
  size_t begin;
  size_t end;
};

/// What one thread needs for matching. Not shared between threads.
class MatchScratch {
 public:
  MatchScratch();
  ~MatchScratch();
  MatchScratch(const MatchScratch&) = delete;
  MatchScratch& operator=(const MatchScratch&) = delete;

 private:
  friend class Pattern;
  struct State;
  std::unique_ptr<State> state_;
};

/// Immutable and safe to share between threads; each thread brings its own MatchScratch.
class Pattern {
 public:
  /// Matches `text` itself. The empty literal matches between any two characters.
  static Pattern literal(std::string text);
  /// Compiles a regular expression. UserError naming `where` when PCRE2 does not accept it.
  static Pattern regex(std::string_view expression, const JsonView& where);
  /// Compiles an expression of snug's own.
  static Pattern regex(std::string_view expression);
  /// Reads {"String": ...} or {"Regex": ...}.
  static Pattern from_json(const JsonView& view);

  Pattern(Pattern&&) noexcept;
  Pattern& operator=(Pattern&&) noexcept;
  ~Pattern();

  /// Appends the matches of valid UTF-8 `text` to `matches`, left to right, not overlapping. An
  /// empty match right after another match is passed over. UserError when a match needs more
  /// backtracking than PCRE2 allows.
  void find_all(std::string_view text, MatchScratch& scratch,
                std::vector<TextRange>& matches) const;

 private:
  struct Code;
  Pattern();
  std::optional<TextRange> find(std::string_view text, size_t from, MatchScratch& scratch) const;

  std::string literal_;
  std::unique_ptr<Code> code_;  // none for a literal
};

/// The PCRE2 spelling of an expression in Oniguruma's default syntax, under UTF, UCP and
/// MULTILINE. UserError naming `where` for nested sets and intersections in a character class.
///
/// Differences it levels: \s is Unicode's White_Space (PCRE2 adds U+180E); \w is Alphabetic, M, Nd
/// and Pc; \h is a hexadecimal digit; \uHHHH; a{1,3}+ repeats the repetition (PCRE2: possessive);
/// a{,3} is a{0,3}. See doc/RE of Oniguruma 6.9 and pcre2pattern(3).
std::string pcre2_from_oniguruma(std::string_view expression, const JsonView& where);

}  // namespace snug
