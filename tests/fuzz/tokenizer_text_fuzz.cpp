// Any bytes encode to ids that decode to the same valid UTF-8, all at once and one by one.

#include <string>
#include <vector>

#include "data/tokenizer/byte_alphabet.h"
#include "data/tokenizer/tokenizer.h"
#include "fuzz.h"

namespace {

// Every byte is a token, "ab" and "abc" are merges; pieces are cut as GPT-2 does.
snug::Tokenizer byte_tokenizer() {
  std::string json = R"({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false,
    "use_regex": true}, "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE",
    "merges": [["a", "b"], ["ab", "c"]], "vocab": {"ab": 256, "abc": 257)";
  for (int byte = 0; byte < 256; ++byte) {
    std::string spelled;
    snug::spell_bytes(std::string(1, static_cast<char>(byte)), spelled);
    if (spelled == "\"" || spelled == "\\") spelled.insert(0, "\\");
    json += ", \"" + spelled + "\": " + std::to_string(byte);
  }
  return snug::Tokenizer::from_text(json + "}}}", "bytes");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const snug::Tokenizer kTokenizer = byte_tokenizer();
  const auto ids = kTokenizer.encode(snug::text_of(data, size), false);
  const std::string text = kTokenizer.decode(ids, false);
  snug::require(kTokenizer.decode(kTokenizer.encode(text, false), false) == text);
  snug::StreamDecoder stream(kTokenizer, false);
  std::string streamed;
  for (const std::int32_t id : ids) streamed += stream.push(id);
  snug::require(streamed + stream.finish() == text);
  return 0;
}
