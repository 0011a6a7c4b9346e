// A graph's text is refused, or parses to a graph that prints as a text which parses to the same.

#include "fuzz.h"
#include "ir/text.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  snug::accepted([&] {
    const std::string once = snug::print_graph(snug::parse_graph(snug::text_of(data, size)));
    snug::require(snug::print_graph(snug::parse_graph(once)) == once);
  });
  return 0;
}
