// A tokenizer.json is refused, or encodes and decodes any text without leaving its vocabulary.

#include "data/tokenizer/tokenizer.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  snug::accepted([&] {
    const auto tokenizer = snug::Tokenizer::from_text(snug::text_of(data, size), "tokenizer.json");
    const auto ids =
        tokenizer.encode("Hello ab abc  \n 12345 \xC3\xA9\xF0\x9F\x98\x80 \xFF!", true);
    for (const std::int32_t id : ids) snug::require(id >= 0 && id < tokenizer.vocab_size());
    tokenizer.decode(ids, false);
  });
  return 0;
}
