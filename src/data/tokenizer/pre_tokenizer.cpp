#include "data/tokenizer/pre_tokenizer.h"

#include <algorithm>

#include "core/error.h"
#include "data/tokenizer/byte_alphabet.h"
#include "data/tokenizer/utf8.h"

namespace snug {
namespace {

constexpr size_t kMostStages = 64;

// encoder.py of openai/gpt-2.
constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// Word characters as Unicode's technical standard 18 has them, and runs of anything else but space.
constexpr std::string_view kWords = R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}]+|)"
                                    R"([^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}\s]+)";
// ASCII punctuation, and category P as of Unicode 8.0, the version of the `tokenizers` package: of
// later ones the first set is excluded, and U+166D and U+111C9 have left the category since.
constexpr std::string_view kPunctuation =
    R"((?![\x{61D}\x{9FD}\x{A76}\x{C77}\x{C84}\x{1B7D}\x{1B7E}\x{2E43}-\x{2E5D}\x{10EAD})"
    R"(\x{10F55}-\x{10F59}\x{10F86}-\x{10F89}\x{1144B}-\x{1144F}\x{1145A}-\x{1145D})"
    R"(\x{11660}-\x{1166C}\x{116B9}\x{1183B}\x{11944}-\x{11946}\x{119E2}\x{11A3F}-\x{11A46})"
    R"(\x{11A9A}-\x{11A9C}\x{11A9E}-\x{11AA2}\x{11C41}-\x{11C45}\x{11C70}\x{11C71}\x{11EF7})"
    R"(\x{11EF8}\x{11FFF}\x{12FF1}\x{12FF2}\x{16E97}-\x{16E9A}\x{16FE2}\x{1E95E}\x{1E95F}])"
    R"()[\p{P}\x{166D}\x{111C9}$+<=>^`|~])";

SplitBehavior behavior_of(const JsonView& view) {
  const std::string& name = view.text();
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  view.fail(
      fmt::format("is '{}'; snug reads Removed, Isolated, MergedWithPrevious, "
                  "MergedWithNext and Contiguous.",
                  name));
}

}  // namespace

PreTokenizer PreTokenizer::from_json(const JsonView& view) {
  PreTokenizer made;
  made.read(view);
  if (made.stages_.size() > kMostStages) {
    view.fail(fmt::format("has {} stages; snug reads up to {}.", made.stages_.size(), kMostStages));
  }
  if (!made.stages_.empty() && std::holds_alternative<SpellBytes>(made.stages_.back())) {
    made.stages_.pop_back();
    made.byte_level_ = true;
  }
  return made;
}

void PreTokenizer::add_split(std::string_view expression, SplitBehavior behavior, bool invert) {
  stages_.emplace_back(Split{Pattern::regex(expression), behavior, invert});
}

void PreTokenizer::read(const JsonView& view) {
  const std::string type = view.at("type").text();
  if (type == "Sequence") {
    for (const JsonView& part : view.at("pretokenizers").elements()) read(part);
  } else if (type == "Split") {
    stages_.emplace_back(Split{Pattern::from_json(view.at("pattern")),
                               behavior_of(view.at("behavior")), view.at("invert").boolean()});
  } else if (type == "ByteLevel") {
    const auto use_regex = view.find("use_regex");
    if (view.at("add_prefix_space").boolean()) stages_.emplace_back(PrefixSpace{});
    if (!use_regex || use_regex->boolean()) add_split(kGpt2, SplitBehavior::isolated);
    stages_.emplace_back(SpellBytes{});
  } else if (type == "Digits") {
    add_split(R"(\p{N})", view.at("individual_digits").boolean() ? SplitBehavior::isolated
                                                                 : SplitBehavior::contiguous);
  } else if (type == "Punctuation") {
    const auto behavior = view.find("behavior");
    add_split(kPunctuation, behavior ? behavior_of(*behavior) : SplitBehavior::isolated);
  } else if (type == "Whitespace") {
    add_split(kWords, SplitBehavior::removed, true);
  } else if (type == "WhitespaceSplit") {
    add_split(R"(\s)", SplitBehavior::removed);
  } else if (type == "Metaspace") {
    read_metaspace(view);
  } else {
    view.fail(
        fmt::format("has the type '{}'; snug reads Sequence, Split, ByteLevel, Digits, "
                    "Punctuation, Whitespace, WhitespaceSplit and Metaspace.",
                    type));
  }
}

void PreTokenizer::read_metaspace(const JsonView& view) {
  const JsonView replacement = view.at("replacement");
  const std::string& text = replacement.text();
  if (text.empty() || utf8_char(text, 0).size != text.size()) {
    replacement.fail("must be one character.");
  }
  using Prepend = Metaspace::Prepend;
  Prepend prepend = Prepend::always;
  const auto scheme = view.find("prepend_scheme");
  if (scheme) {
    const std::string& name = scheme->text();
    if (name != "always" && name != "first" && name != "never") {
      scheme->fail(fmt::format("is '{}', expected always, first or never.", name));
    }
    prepend = name == "always"  ? Prepend::always
              : name == "first" ? Prepend::first
                                : Prepend::never;
  }
  const auto prefix = view.find("add_prefix_space");
  if (prefix && !prefix->boolean()) {
    if (scheme && prepend != Prepend::never) prefix->fail("contradicts 'prepend_scheme'.");
    prepend = Prepend::never;
  }
  stages_.emplace_back(Metaspace{text, prepend});
  const auto split = view.find("split");
  if (!split || split->boolean()) {
    stages_.emplace_back(Split{Pattern::literal(text), SplitBehavior::merged_with_next, false});
  }
}

void split_pieces(size_t size, const std::vector<TextRange>& matches, SplitBehavior behavior,
                  bool invert, std::vector<TextRange>& pieces) {
  // Whether the part before the current one was a delimiter. Merging with the next is merging
  // with the previous, seen from the end: there a delimiter opens a piece that what follows joins.
  bool previous = false;
  const auto part = [&](size_t begin, size_t end, bool delimiter) {
    bool join = false;
    switch (behavior) {
      case SplitBehavior::removed:
        if (delimiter) return;
        break;
      case SplitBehavior::isolated:
        break;
      case SplitBehavior::merged_with_previous:
        join = delimiter && !previous;
        break;
      case SplitBehavior::merged_with_next:
        join = !delimiter && previous;
        break;
      case SplitBehavior::contiguous:
        join = delimiter == previous;
        break;
    }
    previous = delimiter;
    if (join && !pieces.empty()) {
      pieces.back().end = end;
    } else {
      pieces.push_back({begin, end});
    }
  };
  size_t done = 0;
  for (const TextRange& match : matches) {
    if (done != match.begin) part(done, match.begin, invert);
    part(match.begin, match.end, !invert);
    done = match.end;
  }
  if (done != size) part(done, size, invert);
  std::erase_if(pieces, [](const TextRange& piece) { return piece.begin == piece.end; });
}

void PreTokenizer::run(std::string_view text, bool at_origin, Scratch& scratch, Sink sink) const {
  scratch.stages.resize(stages_.size());
  run_stage(0, text, at_origin, scratch, sink);
}

void PreTokenizer::run_stage(size_t index, std::string_view text, bool at_origin, Scratch& scratch,
                             Sink sink) const {
  if (text.empty()) return;
  if (index == stages_.size()) return sink(text);
  StageScratch& mine = scratch.stages[index];
  if (const auto* split = std::get_if<Split>(&stages_[index])) {
    mine.matches.clear();
    mine.pieces.clear();
    split->pattern.find_all(text, scratch.match, mine.matches);
    split_pieces(text.size(), mine.matches, split->behavior, split->invert, mine.pieces);
    for (const auto [begin, end] : mine.pieces) {
      run_stage(index + 1, text.substr(begin, end - begin), at_origin && begin == 0, scratch, sink);
    }
    return;
  }
  mine.text = text;
  if (const auto* space = std::get_if<Metaspace>(&stages_[index])) {
    const std::string& mark = space->replacement;
    mine.text.clear();
    for (size_t from = 0; from < text.size();) {
      const size_t found = std::min(text.find(' ', from), text.size());
      mine.text += text.substr(from, found - from);
      if (found < text.size()) mine.text += mark;
      from = found + 1;
    }
    const bool wanted = space->prepend == Metaspace::Prepend::always ||
                        (space->prepend == Metaspace::Prepend::first && at_origin);
    if (wanted && !mine.text.starts_with(mark)) mine.text.insert(0, mark);
  } else if (std::holds_alternative<PrefixSpace>(stages_[index])) {
    if (!text.starts_with(' ')) mine.text.insert(0, 1, ' ');
  } else {
    spell_bytes(text, mine.text);
  }
  run_stage(index + 1, mine.text, at_origin, scratch, sink);
}

}  // namespace snug
