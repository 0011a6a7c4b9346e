#pragma once
// The `pre_tokenizer` of a tokenizer.json: cuts text into the pieces that the model sees one by
// one.

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/function_ref.h"
#include "data/tokenizer/json_view.h"
#include "data/tokenizer/pattern.h"

namespace snug {

/// What becomes of the matches (the delimiters) of a split.
enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

/// Immutable and safe to share between threads. All texts are valid UTF-8.
class PreTokenizer {
 public:
  using Sink = FunctionRef<void(std::string_view piece)>;

  /// One stage's working memory.
  struct StageScratch {
    std::vector<TextRange> matches;
    std::vector<TextRange> pieces;
    std::string text;
  };
  struct Scratch {
    MatchScratch match;
    std::vector<StageScratch> stages;
  };

  /// The whole text is one piece.
  PreTokenizer() = default;
  /// Reads Sequence, Split, ByteLevel, Digits, Punctuation, Whitespace, WhitespaceSplit and
  /// Metaspace; any other type is a UserError that names it.
  static PreTokenizer from_json(const JsonView& view);

  /// Whether the model has to spell pieces in the byte-level alphabet (they come as plain text).
  bool byte_level() const { return byte_level_; }

  /// Calls `sink` for each non-empty piece of `text`, in order. `at_origin`: `text` begins where
  /// the whole input does. A piece is valid only during its call.
  void run(std::string_view text, bool at_origin, Scratch& scratch, Sink sink) const;

 private:
  struct Split {
    Pattern pattern;
    SplitBehavior behavior;
    bool invert;
  };
  /// Puts a space before a piece that does not begin with one.
  struct PrefixSpace {};
  struct Metaspace {
    enum class Prepend { always, first, never };
    std::string replacement;
    Prepend prepend;
  };
  /// Spells a piece in the byte-level alphabet; only where another stage follows.
  struct SpellBytes {};
  using Stage = std::variant<Split, PrefixSpace, Metaspace, SpellBytes>;

  void read(const JsonView& view);
  void read_metaspace(const JsonView& view);
  void add_split(std::string_view expression, SplitBehavior behavior, bool invert = false);
  void run_stage(size_t index, std::string_view text, bool at_origin, Scratch& scratch,
                 Sink sink) const;

  std::vector<Stage> stages_;
  bool byte_level_ = false;
};

/// The pieces of a text of `size` bytes whose delimiters are `matches`, without empty ones.
void split_pieces(size_t size, const std::vector<TextRange>& matches, SplitBehavior behavior,
                  bool invert, std::vector<TextRange>& pieces);

}  // namespace snug
