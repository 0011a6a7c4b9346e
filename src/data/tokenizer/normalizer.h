#pragma once
// The `normalizer` of a tokenizer.json: rewrites text before it is cut into pieces.

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "data/tokenizer/json_view.h"
#include "data/tokenizer/pattern.h"

namespace snug {

/// Immutable and safe to share between threads. All texts are valid UTF-8.
class Normalizer {
 public:
  /// Rewrites nothing.
  Normalizer() = default;
  /// Reads Sequence, Prepend, Replace, Lowercase, Strip, NFC, NFD, NFKC and NFKD; any other type is
  /// a UserError that names it.
  static Normalizer from_json(const JsonView& view);

  bool empty() const { return steps_.empty(); }

  /// Rewrites `text` in place. `at_origin` says whether its first character stands for the first
  /// character of the whole input, and is cleared when that character is removed.
  void run(std::string& text, bool& at_origin, MatchScratch& scratch) const;

 private:
  struct Prepend {
    std::string text;
  };
  struct Replace {
    Pattern pattern;
    std::string content;
  };
  struct Lowercase {};
  struct Strip {
    bool left;
    bool right;
  };
  /// A Unicode normal form, as options of utf8proc.
  struct Form {
    int options;
  };
  using Step = std::variant<Prepend, Replace, Lowercase, Strip, Form>;

  void read(const JsonView& view);
  static void apply(const Prepend&, std::string&, bool&, MatchScratch&);
  static void apply(const Replace&, std::string&, bool&, MatchScratch&);
  static void apply(const Lowercase&, std::string&, bool&, MatchScratch&);
  static void apply(const Strip&, std::string&, bool&, MatchScratch&);
  static void apply(const Form&, std::string&, bool&, MatchScratch&);

  std::vector<Step> steps_;
};

}  // namespace snug
