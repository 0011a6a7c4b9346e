#include "data/tokenizer/added_tokens.h"

#include <algorithm>

#include "core/error.h"
#include "data/tokenizer/utf8.h"

namespace snug {
namespace {

bool flag(const JsonView& view, std::string_view key) {
  const auto value = view.find(key);
  return value && value->boolean();
}

AddedToken read_token(const JsonView& view, const Normalizer& normalizer, MatchScratch& scratch) {
  AddedToken token;
  token.id = static_cast<int32_t>(view.at("id").whole(kHighestTokenId));
  token.content = view.at("content").text();
  token.single_word = flag(view, "single_word");
  token.lstrip = flag(view, "lstrip");
  token.rstrip = flag(view, "rstrip");
  token.normalized = flag(view, "normalized");
  token.special = flag(view, "special");
  token.matched = token.content;
  bool at_origin = true;
  if (token.normalized) normalizer.run(token.matched, at_origin, scratch);
  return token;
}

}  // namespace

AddedTokens AddedTokens::from_json(const JsonView& view, const Bpe& model,
                                   const Normalizer& normalizer) {
  AddedTokens added;
  MatchScratch scratch;
  int64_t next_id = model.size();
  for (const JsonView& element : view.elements()) {
    AddedToken token = read_token(element, normalizer, scratch);
    if (token.content.empty()) continue;
    const auto earlier = added.by_content_.find(token.content);
    if (earlier != added.by_content_.end()) element.fail("is there twice.");
    const auto known = model.id_of(token.content);
    const int64_t id = known ? *known : next_id++;
    if (token.id != id) {
      element.fail(
          fmt::format("gives '{}' the id {}, but it is {} by 'model.vocab' and the tokens "
                      "before it.",
                      token.content, token.id, id));
    }
    added.by_content_.emplace(token.content, added.tokens_.size());
    added.by_id_.emplace(token.id, added.tokens_.size());
    Finder& finder = token.normalized ? added.normalized_ : added.raw_;
    if (!token.matched.empty() && !finder.add(token.matched, added.tokens_.size())) {
      element.fail(fmt::format("is '{}' after normalisation, as is another token.", token.matched));
    }
    added.tokens_.push_back(std::move(token));
  }
  return added;
}

std::optional<int32_t> AddedTokens::id_of(std::string_view content) const {
  const auto found = by_content_.find(std::string(content));
  if (found == by_content_.end()) return std::nullopt;
  return tokens_[found->second].id;
}

const AddedToken* AddedTokens::find(int32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &tokens_[found->second];
}

bool AddedTokens::Finder::add(std::string_view text, size_t token) {
  first_[static_cast<unsigned char>(text[0])] = true;
  size_t node = 0;
  for (const char byte : text) {
    const uint64_t edge = uint64_t{node} << 8 | static_cast<unsigned char>(byte);
    const auto [found, fresh] = edges_.emplace(edge, nodes_.size());
    if (fresh) nodes_.emplace_back();
    node = found->second;
  }
  if (nodes_[node]) return false;
  nodes_[node] = token;
  return true;
}

// The leftmost match at or after `from`, the longest of those that begin there.
std::optional<AddedTokens::Finder::Match> AddedTokens::Finder::next(std::string_view text,
                                                                    size_t from) const {
  if (edges_.empty()) return std::nullopt;
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!first_[static_cast<unsigned char>(text[begin])]) continue;
    std::optional<Match> longest;
    size_t node = 0;
    for (size_t at = begin; at < text.size(); ++at) {
      const auto edge = edges_.find(uint64_t{node} << 8 | static_cast<unsigned char>(text[at]));
      if (edge == edges_.end()) break;
      node = edge->second;
      if (nodes_[node]) longest = Match{*nodes_[node], begin, at + 1};
    }
    if (longest) return longest;
  }
  return std::nullopt;
}

// Whether no word character touches [begin, end) of `text`.
bool AddedTokens::is_single_word(std::string_view text, size_t begin, size_t end,
                                 MatchScratch& scratch) const {
  std::vector<TextRange> words;
  if (begin > 0) {
    const size_t size = utf8_char_before(text, begin).size;
    word_character_.find_all(text.substr(begin - size, size), scratch, words);
  }
  if (end < text.size()) {
    word_character_.find_all(text.substr(end, utf8_char(text, end).size), scratch, words);
  }
  return words.empty();
}

void AddedTokens::split(const Finder& finder, std::string_view text, MatchScratch& scratch,
                        Sink sink) const {
  size_t done = 0;
  size_t from = 0;
  while (const auto match = finder.next(text, from)) {
    from = match->end;
    const AddedToken& token = tokens_[match->token];
    auto [index, begin, end] = *match;
    if (token.single_word && !is_single_word(text, begin, end, scratch)) continue;
    while (token.lstrip && begin > done) {
      const Utf8Char c = utf8_char_before(text, begin);
      if (!is_white_space(c.code)) break;
      begin -= c.size;
    }
    while (token.rstrip && end < text.size()) {
      const Utf8Char c = utf8_char(text, end);
      if (!is_white_space(c.code)) break;
      end += c.size;
    }
    if (done < begin) sink(text.substr(done, begin - done), nullptr);
    sink(text.substr(begin, end - begin), &token);
    done = end;
  }
  if (done < text.size()) sink(text.substr(done), nullptr);
}

}  // namespace snug
