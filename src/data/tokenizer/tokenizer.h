#pragma once
// Text to token ids and back, as a Hugging Face tokenizer.json says.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace snug {

class StreamDecoder;

/// Byte-pair encoding as Llama 3, Qwen, SmolLM, Mistral and Llama 2 have it; equal to the
/// `tokenizers` package on the same file. Const functions may run in several threads at once.
class Tokenizer {
 public:
  /// UserError naming file and key for what is missing, malformed, contradictory or of a kind that
  /// snug does not read (other models than BPE among it).
  static Tokenizer from_file(const std::filesystem::path& tokenizer_json);
  /// The same from a text; `name` stands for the file in errors.
  static Tokenizer from_text(std::string_view json, const std::string& name);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// The ids of `text`. Bytes that are not UTF-8 count as U+FFFD, one for each maximal ill-formed
  /// part (Python's errors="replace"). `add_special_tokens` switches the post-processor; special
  /// tokens that stand in the text are found either way. `text` has at most 2 GiB.
  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens) const;

  /// The text of `ids`, valid UTF-8. Ids that no token has are left out.
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

  /// The id of a token's exact text, such as "<|eot_id|>".
  std::optional<int32_t> token_id(std::string_view token) const;
  /// A token's text as it stands in the file (byte-level tokens spelled); empty for no token.
  /// Lives as long as the tokenizer.
  std::string_view token_text(int32_t id) const;
  bool is_special(int32_t id) const;
  /// The highest id + 1. A model's embedding may have more rows.
  int64_t vocab_size() const;

 private:
  friend class StreamDecoder;
  struct State;
  explicit Tokenizer(std::unique_ptr<const State> state);
  std::unique_ptr<const State> state_;
};

/// Decodes ids one by one as they are generated. All texts together equal Tokenizer::decode of all
/// ids; each holds whole characters only. Neighbouring <0x..> byte tokens come out together, once
/// another token follows. The tokenizer must outlive it.
class StreamDecoder {
 public:
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens);
  ~StreamDecoder();
  StreamDecoder(StreamDecoder&&) noexcept;
  StreamDecoder& operator=(StreamDecoder&&) = delete;

  /// The text that is certain with this id; often empty.
  std::string push(int32_t id);
  /// The rest. To be called once, last.
  std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace snug
