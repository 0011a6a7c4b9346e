// Generates from token ids, for the parity suite to compare with the real packages:
//   generate_tool FOLDER LOGITS_FILE CHUNK NEW ID...
// prints the new ids as JSON and writes f32 logits: a row for each id of the prompt, fed one by
// one, then the row of the last one as prefill gives it. Exit status 1 with the message for a
// UserError.

#include <fmt/ostream.h>

#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/settings_load.h"
#include "io/file.h"
#include "train/generator.h"

namespace snug {
namespace {

void run(const std::vector<std::string>& words) {
  check(words.size() > 4, "FOLDER LOGITS_FILE CHUNK NEW ID...");
  ModelSettings which;
  which.name_or_path = words[0];
  const ModelSource model = open_model(which);
  std::vector<std::int32_t> prompt;
  for (std::size_t i = 4; i < words.size(); ++i) prompt.push_back(std::stoi(words[i]));
  const std::int64_t most = std::stoll(words[3]);
  Generator generator(model,
                      {.prompt_tokens = static_cast<std::int64_t>(prompt.size()),
                       .new_tokens = most,
                       .chunk_tokens = std::stoll(words[2])},
                      default_settings());
  OutputFile file(words[1], 0);
  for (const std::int32_t& id : prompt) file.write(std::as_bytes(generator.feed({&id, 1})));
  generator.restart();
  file.write(std::as_bytes(generator.feed(prompt)));
  file.finish();
  const Generation generation = generator.run(prompt, most, {}, [](std::int32_t) {});
  fmt::print(std::cout, "{}\n", nlohmann::json(generation.tokens).dump());
}

}  // namespace
}  // namespace snug

int main(int argc, char** argv) {
  try {
    snug::run({argv + 1, argv + argc});
  } catch (const snug::UserError& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
