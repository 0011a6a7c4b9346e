// config.json is refused, or what is written from it reads back as the same model.

#include "fuzz.h"
#include "model/config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  snug::ModelConfig config;
  if (snug::accepted(
          [&] { config = snug::parse_config(snug::text_of(data, size), "config.json"); })) {
    snug::require(snug::parse_config(snug::write_config(config), "written") == config);
    snug::require(snug::parameter_count(config) > 0);
  }
  return 0;
}
