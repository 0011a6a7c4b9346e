#pragma once
// The `decoder` of a tokenizer.json: turns the texts of tokens back into plain text.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/json_view.h"

namespace snug {

/// One step of decoding. Token texts go in piece by piece, and what is certain comes out to `next`
/// at once: so decoding a whole list and decoding token by token are the same code.
class DecodeStep {
 public:
  DecodeStep() = default;
  DecodeStep(const DecodeStep&) = default;
  DecodeStep& operator=(const DecodeStep&) = delete;
  virtual ~DecodeStep() = default;

  virtual std::unique_ptr<DecodeStep> clone() const = 0;
  /// Some text of the current token; `ends`: the token is complete with it.
  virtual void push(std::string_view text, bool ends) = 0;
  /// No more tokens come.
  virtual void finish() { next->finish(); }

  DecodeStep* next = nullptr;  // not owned
};

/// The state of one decoding: a chain of steps and the text that has come out of it.
class DecodeChain {
 public:
  explicit DecodeChain(const std::vector<std::unique_ptr<DecodeStep>>& steps);
  ~DecodeChain();
  DecodeChain(DecodeChain&&) noexcept;
  DecodeChain& operator=(DecodeChain&&) = delete;

  void push(std::string_view token) { first_->push(token, true); }
  void finish() { first_->finish(); }
  /// What came out since the last call: whole characters.
  std::string take();

 private:
  class Collect;
  std::vector<std::unique_ptr<DecodeStep>> steps_;
  std::unique_ptr<Collect> collect_;
  DecodeStep* first_;
};

/// Immutable and safe to share between threads.
class TokenDecoder {
 public:
  /// Joins tokens with spaces, as the `tokenizers` package does without a decoder.
  TokenDecoder();
  /// Reads Sequence, ByteLevel, Replace, ByteFallback, Fuse, Strip and Metaspace; any other type
  /// is a UserError that names it.
  static TokenDecoder from_json(const JsonView& view);

  DecodeChain start() const { return DecodeChain(steps_); }

 private:
  void read(const JsonView& view);

  std::vector<std::unique_ptr<DecodeStep>> steps_;
};

}  // namespace snug
