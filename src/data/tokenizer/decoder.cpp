#include "data/tokenizer/decoder.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/error.h"
#include "data/tokenizer/byte_alphabet.h"
#include "data/tokenizer/pattern.h"
#include "data/tokenizer/utf8.h"

namespace snug {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

/// A step that needs whole tokens: gathers their pieces.
class TokenStep : public DecodeStep {
 public:
  void push(std::string_view text, bool ends) final {
    if (ends && gathered_.empty()) return token(text);
    gathered_ += text;
    if (ends) token(std::exchange(gathered_, {}));
  }

 protected:
  virtual void token(std::string_view text) = 0;

 private:
  std::string gathered_;
};

class JoinWithSpaces : public DecodeStep {
 public:
  std::unique_ptr<DecodeStep> clone() const override {
    return std::make_unique<JoinWithSpaces>(*this);
  }
  void push(std::string_view text, bool ends) override {
    if (!std::exchange(first_, false)) next->push(" ", false);
    next->push(text, ends);
  }

 private:
  bool first_ = true;
};

/// Tokens spell bytes; those that do not are taken as they are. All become one token.
class ByteLevel : public TokenStep {
 public:
  std::unique_ptr<DecodeStep> clone() const override { return std::make_unique<ByteLevel>(*this); }
  void token(std::string_view text) override {
    bytes_ += bytes_of_spelling(text).value_or(std::string(text));
    const size_t complete = complete_utf8_prefix(bytes_);
    next->push(replace_invalid_utf8(std::string_view(bytes_).substr(0, complete)), false);
    bytes_.erase(0, complete);
  }
  void finish() override {
    next->push(replace_invalid_utf8(bytes_), true);
    next->finish();
  }

 private:
  std::string bytes_;
};

class Replace : public TokenStep {
 public:
  Replace(std::shared_ptr<const Pattern> pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  std::unique_ptr<DecodeStep> clone() const override {
    return std::make_unique<Replace>(pattern_, content_);
  }
  void token(std::string_view text) override {
    std::vector<TextRange> matches;
    if (!text.empty()) pattern_->find_all(text, scratch_, matches);
    std::string out;
    size_t copied = 0;
    for (const TextRange& match : matches) {
      out += text.substr(copied, match.begin - copied);
      out += content_;
      copied = match.end;
    }
    out += text.substr(copied);
    next->push(out, true);
  }

 private:
  std::shared_ptr<const Pattern> pattern_;  // one compiled pattern for all decodings
  std::string content_;
  MatchScratch scratch_;
};

/// Neighbouring <0x..> tokens become the text of their bytes, or a U+FFFD each.
class ByteFallback : public TokenStep {
 public:
  std::unique_ptr<DecodeStep> clone() const override {
    return std::make_unique<ByteFallback>(*this);
  }
  void token(std::string_view text) override {
    if (const auto byte = byte_of(text)) {
      bytes_.push_back(*byte);
      return;
    }
    flush();
    next->push(text, true);
  }
  void finish() override {
    flush();
    next->finish();
  }

 private:
  static std::optional<char> byte_of(std::string_view text) {
    if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
    int byte = 0;
    for (const char digit : text.substr(3, 2)) {
      const size_t value = std::string_view("0123456789abcdef0123456789ABCDEF").find(digit);
      if (value == std::string_view::npos) return std::nullopt;
      byte = byte * 16 + static_cast<int>(value % 16);
    }
    return static_cast<char>(byte);
  }

  void flush() {
    const std::string bytes = std::exchange(bytes_, {});
    if (is_valid_utf8(bytes)) {
      if (!bytes.empty()) next->push(bytes, true);
    } else {
      for (size_t i = 0; i < bytes.size(); ++i) next->push(kReplacement, true);
    }
  }

  std::string bytes_;
};

/// All tokens become one.
class Fuse : public DecodeStep {
 public:
  std::unique_ptr<DecodeStep> clone() const override { return std::make_unique<Fuse>(*this); }
  void push(std::string_view text, bool /*ends*/) override { next->push(text, false); }
  void finish() override {
    next->push("", true);
    next->finish();
  }
};

/// Takes up to `start` characters `content` from the front of each token, `stop` from its end.
class Strip : public DecodeStep {
 public:
  Strip(std::string content, int64_t start, int64_t stop)
      : content_(std::move(content)), start_(start), stop_(stop), left_(start) {}
  std::unique_ptr<DecodeStep> clone() const override { return std::make_unique<Strip>(*this); }
  void push(std::string_view text, bool ends) override {
    while (left_ > 0 && text.starts_with(content_)) {
      text.remove_prefix(content_.size());
      --left_;
    }
    if (!text.empty()) left_ = 0;
    held_ += text;
    size_t keep = held_.size();  // what cannot be stripped from the end any more
    for (int64_t i = 0; i < stop_ && std::string_view(held_).substr(0, keep).ends_with(content_);
         ++i) {
      keep -= content_.size();
    }
    next->push(std::string_view(held_).substr(0, keep), ends);
    held_.erase(0, keep);
    if (ends) {
      held_.clear();
      left_ = start_;
    }
  }

 private:
  std::string content_;
  int64_t start_;
  int64_t stop_;
  int64_t left_;      // may still be taken from the front of the current token
  std::string held_;  // may have to go from its end
};

/// The replacement becomes a space, and nothing in the first token.
class Metaspace : public TokenStep {
 public:
  Metaspace(std::string replacement, bool prepended)
      : replacement_(std::move(replacement)), drop_(prepended) {}
  std::unique_ptr<DecodeStep> clone() const override { return std::make_unique<Metaspace>(*this); }
  void token(std::string_view text) override {
    const bool drop = std::exchange(drop_, false);
    std::string out;
    size_t from = 0;
    while (from < text.size()) {
      const size_t found = std::min(text.find(replacement_, from), text.size());
      out += text.substr(from, found - from);
      if (found < text.size() && !drop) out += ' ';
      from = found + replacement_.size();
    }
    next->push(out, true);
  }

 private:
  std::string replacement_;
  bool drop_;
};

std::string one_character(const JsonView& view) {
  const std::string& text = view.text();
  if (text.empty() || utf8_char(text, 0).size != text.size()) view.fail("must be one character.");
  return text;
}

}  // namespace

class DecodeChain::Collect : public DecodeStep {
 public:
  std::unique_ptr<DecodeStep> clone() const override { return std::make_unique<Collect>(*this); }
  void push(std::string_view text, bool /*ends*/) override { out += text; }
  void finish() override {}
  std::string out;
};

DecodeChain::DecodeChain(const std::vector<std::unique_ptr<DecodeStep>>& steps)
    : collect_(std::make_unique<Collect>()), first_(collect_.get()) {
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    steps_.push_back((*step)->clone());
    steps_.back()->next = first_;
    first_ = steps_.back().get();
  }
}
DecodeChain::~DecodeChain() = default;
DecodeChain::DecodeChain(DecodeChain&&) noexcept = default;

std::string DecodeChain::take() { return std::exchange(collect_->out, {}); }

TokenDecoder::TokenDecoder() { steps_.push_back(std::make_unique<JoinWithSpaces>()); }

TokenDecoder TokenDecoder::from_json(const JsonView& view) {
  TokenDecoder decoder;
  decoder.steps_.clear();
  decoder.read(view);
  return decoder;
}

void TokenDecoder::read(const JsonView& view) {
  const std::string type = view.at("type").text();
  if (type == "Sequence") {
    for (const JsonView& part : view.at("decoders").elements()) read(part);
  } else if (type == "ByteLevel") {
    steps_.push_back(std::make_unique<ByteLevel>());
  } else if (type == "Replace") {
    auto pattern = std::make_shared<const Pattern>(Pattern::from_json(view.at("pattern")));
    steps_.push_back(std::make_unique<Replace>(std::move(pattern), view.at("content").text()));
  } else if (type == "ByteFallback") {
    steps_.push_back(std::make_unique<ByteFallback>());
  } else if (type == "Fuse") {
    steps_.push_back(std::make_unique<Fuse>());
  } else if (type == "Strip") {
    steps_.push_back(std::make_unique<Strip>(one_character(view.at("content")),
                                             view.at("start").whole(INT32_MAX),
                                             view.at("stop").whole(INT32_MAX)));
  } else if (type == "Metaspace") {
    const auto scheme = view.find("prepend_scheme");
    const auto prefix = view.find("add_prefix_space");
    const bool never = (scheme && scheme->text() == "never") || (prefix && !prefix->boolean());
    steps_.push_back(std::make_unique<Metaspace>(one_character(view.at("replacement")), !never));
  } else {
    view.fail(
        fmt::format("has the type '{}'; snug reads Sequence, ByteLevel, Replace, "
                    "ByteFallback, Fuse, Strip and Metaspace.",
                    type));
  }
}

}  // namespace snug
