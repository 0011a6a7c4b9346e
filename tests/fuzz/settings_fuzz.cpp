// A config.yaml is refused, or its effective configuration reads back as the same settings.

#include <string>

#include "core/settings_load.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(snug::text_of(data, size));
  std::string printed;
  if (snug::accepted([&] {
        snug::Settings settings = snug::make_settings(snug::parse_config(text, "config.yaml"));
        printed = snug::effective_yaml(settings);
        snug::ErrorList errors;
        snug::check_settings(settings, errors);
      })) {
    const auto again = snug::make_settings(snug::parse_config(printed, "printed"));
    snug::require(snug::effective_yaml(again) == printed);
  }
  return 0;
}
