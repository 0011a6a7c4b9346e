#pragma once
// The `added_tokens` of a tokenizer.json: tokens that are cut out of the text before anything else.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/function_ref.h"
#include "data/tokenizer/bpe.h"
#include "data/tokenizer/json_view.h"
#include "data/tokenizer/normalizer.h"
#include "data/tokenizer/pattern.h"

namespace snug {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  std::string matched;  // what is looked for, and decoded: the content, normalised if `normalized`
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and after it
  bool normalized = false;   // is looked for in normalised text
  bool special = false;
};

/// Immutable and safe to share between threads. All texts are valid UTF-8.
class AddedTokens {
 public:
  /// Gets the parts of a text in order: `token` is null for plain text (never empty).
  using Sink = FunctionRef<void(std::string_view part, const AddedToken* token)>;

  AddedTokens() = default;
  /// Reads the list. An id must be the vocabulary's for a token that is there, else the next free
  /// one: that is what the `tokenizers` package gives it, whatever the file says. UserError
  /// otherwise.
  static AddedTokens from_json(const JsonView& view, const Bpe& model,
                               const Normalizer& normalizer);

  /// Cuts the tokens that are looked for in raw text, or those in normalised text, out of `text`.
  void split_raw(std::string_view text, MatchScratch& scratch, Sink sink) const {
    split(raw_, text, scratch, sink);
  }
  void split_normalized(std::string_view text, MatchScratch& scratch, Sink sink) const {
    split(normalized_, text, scratch, sink);
  }

  std::optional<int32_t> id_of(std::string_view content) const;
  /// Null for an id that is no added token's.
  const AddedToken* find(int32_t id) const;
  const std::vector<AddedToken>& all() const { return tokens_; }

 private:
  /// A trie over the bytes of the tokens.
  class Finder {
   public:
    /// False when another token of the same text is there.
    bool add(std::string_view text, size_t token);
    struct Match {
      size_t token;
      size_t begin;
      size_t end;
    };
    std::optional<Match> next(std::string_view text, size_t from) const;

   private:
    std::vector<std::optional<size_t>> nodes_ = {std::nullopt};  // the token that ends here
    std::unordered_map<uint64_t, size_t> edges_;                 // node above byte, to node
    std::array<bool, 256> first_{};                              // bytes that begin a token
  };

  void split(const Finder& finder, std::string_view text, MatchScratch& scratch, Sink sink) const;
  bool is_single_word(std::string_view text, size_t begin, size_t end, MatchScratch& scratch) const;

  Pattern word_character_ = Pattern::regex(R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}])");
  std::vector<AddedToken> tokens_;
  std::unordered_map<int32_t, size_t> by_id_;
  std::unordered_map<std::string, size_t> by_content_;
  Finder raw_;
  Finder normalized_;
};

}  // namespace snug
