// Any bytes as a tokenizer.json, then (behind a zero byte) as a text to encode, decode and stream.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "data/tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\0'), size);
  const std::string_view text = input.substr(std::min(end + 1, size));
  try {
    const auto tokenizer = snug::Tokenizer::from_text(input.substr(0, end), "tokenizer.json");
    const std::vector<int32_t> ids = tokenizer.encode(text, true);
    std::string streamed;
    snug::StreamDecoder stream(tokenizer, true);
    for (const int32_t id : ids) streamed += stream.push(id);
    streamed += stream.finish();
    snug::check(streamed == tokenizer.decode(ids, true), "stream and decode differ");
  } catch (const snug::UserError&) {
    return 0;
  }
  return 0;
}
