#include <fmt/ostream.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "cli/verbs.h"
#include "core/error.h"
#include "core/text.h"
#include "data/tokenizer/tokenizer.h"
#include "train/generator.h"

namespace snug {
namespace {

using Clock = std::chrono::steady_clock;

/// What one `generate` does.
struct Request {
  ModelSource model;
  Tokenizer tokenizer;
  std::vector<std::int32_t> prompt;
  std::int64_t most = 0;  ///< new tokens
};

Request open_request(const Settings& settings) {
  ModelSource model = open_model(settings.model);
  if (model.folder.empty()) {
    user_error("'{}' is a shape without weights and tokenizer; generate needs a model folder.",
               settings.model.name_or_path);
  }
  Tokenizer tokenizer = Tokenizer::from_file(model.folder / "tokenizer.json");
  std::vector<std::int32_t> prompt = tokenizer.encode(settings.generate.prompt, true);
  if (prompt.empty()) user_error("the prompt is empty; give prompt=TEXT.");
  const auto outside = std::find_if(prompt.begin(), prompt.end(),
                                    [&](std::int64_t id) { return id >= model.config.vocab_size; });
  if (outside != prompt.end()) {
    user_error(
        "{}: token {} ('{}') is outside the model's vocabulary of {}; the tokenizer belongs "
        "to another model.",
        (model.folder / "tokenizer.json").string(), *outside, tokenizer.token_text(*outside),
        model.config.vocab_size);
  }
  // The default asks for as much as the model has room for; a number that was asked for is kept.
  const auto length = static_cast<std::int64_t>(prompt.size());
  std::int64_t most = settings.generate.max_new_tokens;
  if (!settings.is_set("max_new_tokens")) {
    most = std::clamp<std::int64_t>(model.config.max_position_embeddings - length, 1, most);
  }
  return {std::move(model), std::move(tokenizer), std::move(prompt), most};
}

SamplingRule sampling_rule(const Settings& settings) {
  return {.draw = settings.generate.do_sample,
          .temperature = settings.generate.temperature,
          .top_p = settings.generate.top_p,
          .seed = static_cast<std::uint64_t>(settings.run.seed)};
}

struct Outcome {
  std::string text;  ///< behind the prompt
  Generation generation;
  double tokens_per_second = 0;
};

/// Generates, showing the text as it comes unless the result is JSON.
Outcome generate(const Request& request, const Command& command, Generator& generator,
                 Console& console) {
  Outcome outcome;
  StreamDecoder decoder(request.tokenizer, true);
  const auto show = [&](const std::string& piece) {
    outcome.text += piece;
    if (command.json) return;
    fmt::print(console.out, "{}", piece);
    console.out.flush();
  };
  if (!command.json) fmt::print(console.out, "{}", command.settings.generate.prompt);
  // The prompt's ids come first: what a token decodes to may depend on those before it.
  for (const std::int32_t id : request.prompt) decoder.push(id);
  const auto start = Clock::now();
  outcome.generation = generator.run(request.prompt, request.most, sampling_rule(command.settings),
                                     [&](std::int32_t id) { show(decoder.push(id)); });
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  show(decoder.finish());
  if (!command.json) fmt::print(console.out, "\n");
  console.out.flush();
  outcome.tokens_per_second = static_cast<double>(outcome.generation.tokens.size()) / seconds;
  return outcome;
}

}  // namespace

int run_generate(const Command& command, Console& console) {
  const Request request = open_request(command.settings);
  const auto prompt_tokens = static_cast<std::int64_t>(request.prompt.size());
  Generator generator(request.model, {.prompt_tokens = prompt_tokens, .new_tokens = request.most},
                      command.settings);
  for (const std::string& note : request.model.notes) fmt::print(console.talk, "{}\n", note);
  fmt::print(console.talk, "{} · {} · prompt {} tokens, up to {} new · planned {}, cache {}\n",
             request.model.name, name_of(generator.weight_type()), group_digits(prompt_tokens),
             group_digits(request.most), binary_bytes(generator.planned_bytes()),
             binary_bytes(generator.cache_bytes()));
  const Outcome outcome = generate(request, command, generator, console);
  const Generation& generation = outcome.generation;
  fmt::print(console.talk, "{} tokens · {:.1f} tok/s · {}/{} · {}\n", generation.tokens.size(),
             outcome.tokens_per_second, binary_bytes(generator.used_bytes()),
             binary_bytes(generator.planned_bytes()),
             generation.stopped ? "end of text" : "max_new_tokens reached");
  if (command.json) {
    const nlohmann::ordered_json json = {{"schema", 1},
                                         {"prompt", command.settings.generate.prompt},
                                         {"text", outcome.text},
                                         {"token_ids", generation.tokens},
                                         {"prompt_tokens", prompt_tokens},
                                         {"new_tokens", generation.tokens.size()},
                                         {"tokens_per_second", outcome.tokens_per_second},
                                         {"planned_peak_bytes", generator.planned_bytes()},
                                         {"used_peak_bytes", generator.used_bytes()}};
    fmt::print(console.out, "{}\n",
               json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  }
  return kDone;
}

}  // namespace snug
