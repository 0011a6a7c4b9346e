#include "train/gguf_pre_tokenizer.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <vector>

#include "core/error.h"

namespace snug {
namespace {

constexpr std::string_view kSpace = "▁";
constexpr std::string_view kDigit = R"(\p{N})";
constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// A pre-tokenizer of llama.cpp (llama-vocab.cpp): its expressions in order, and whether a word
/// that is a token is taken whole.
struct Known {
  std::string_view name;
  std::array<std::string_view, 2> patterns;  // the second may be empty
  bool ignore_merges;
};
constexpr auto kKnown = std::to_array<Known>({
    {"llama-bpe", {kLlama3, ""}, true},
    {"smaug-bpe", {kLlama3, ""}, false},
    {"qwen2", {kQwen2, ""}, false},
    {"gpt-2", {kGpt2, ""}, false},
    {"smollm", {kDigit, kGpt2}, false},
    {"tekken", {kTekken, ""}, true},
});

constexpr auto kNearest =
    "which llama.cpp has no name for. Nearest: export_format=safetensors, or a model with the "
    "tokenizer of Llama 3, Qwen, SmolLM, GPT-2 or Mistral.";

/// The expressions of a pre-tokenizer in order; UserError for stages that are none.
void read_patterns(const JsonView& view, std::vector<std::string>& patterns) {
  const std::string type = view.at("type").text();
  const auto flag = [&](std::string_view key, bool otherwise) {
    const auto value = view.find(key);
    return value ? value->boolean() : otherwise;
  };
  if (type == "Sequence") {
    for (const JsonView& part : view.at("pretokenizers").elements()) read_patterns(part, patterns);
  } else if (type == "Digits" && flag("individual_digits", false)) {
    patterns.emplace_back(kDigit);
  } else if (type == "ByteLevel" && !flag("add_prefix_space", true)) {
    if (flag("use_regex", true)) patterns.emplace_back(kGpt2);
  } else if (type == "Split" && view.at("behavior").text() == "Isolated" &&
             !flag("invert", false) && view.at("pattern").find("Regex")) {
    patterns.push_back(view.at("pattern").at("Regex").text());
  } else {
    view.fail(fmt::format("is {}, {}", view.raw().dump(), kNearest));
  }
}

bool is_space_replacement(const JsonView& step) {
  const auto pattern = step.find("pattern");
  const auto plain = pattern ? pattern->find("String") : std::nullopt;
  return step.at("type").text() == "Replace" && plain && plain->text() == " " &&
         step.at("content").text() == kSpace;
}

[[noreturn]] void refuse_normalizer(const JsonView& normalizer) {
  normalizer.fail(fmt::format("is {}, {}", normalizer.raw().dump(), kNearest));
}

SpaceRule rule_of_normalizer(const JsonView& normalizer) {
  std::vector<JsonView> steps = {normalizer};
  if (normalizer.at("type").text() == "Sequence") steps = normalizer.at("normalizers").elements();
  SpaceRule rule;
  if (!steps.empty() && steps.front().at("type").text() == "Prepend" &&
      steps.front().at("prepend").text() == kSpace) {
    rule.prefix = true;
    steps.erase(steps.begin());
  }
  if (steps.size() != 1 || !is_space_replacement(steps.front())) refuse_normalizer(normalizer);
  return rule;
}

SpaceRule rule_of_metaspace(const JsonView& metaspace) {
  const auto replacement = metaspace.find("replacement");
  if (metaspace.at("type").text() != "Metaspace" || !replacement || replacement->text() != kSpace) {
    metaspace.fail(fmt::format("is {}, {}", metaspace.raw().dump(), kNearest));
  }
  const auto scheme = metaspace.find("prepend_scheme");
  const auto old = metaspace.find("add_prefix_space");
  const auto split = metaspace.find("split");
  const std::string name = scheme ? scheme->text() : !old || old->boolean() ? "always" : "never";
  return {.prefix = name != "never",
          .first_only = name == "first",
          .unless_there = true,
          .cuts_words = !split || split->boolean()};
}

}  // namespace

std::string_view pre_tokenizer_name(const JsonView& tokenizer) {
  const JsonView pre = tokenizer.at("pre_tokenizer");
  std::vector<std::string> patterns;
  read_patterns(pre, patterns);
  const auto ignore = tokenizer.at("model").find("ignore_merges");
  const bool ignore_merges = ignore && ignore->boolean();
  const Known* other_words = nullptr;
  for (const Known& known : kKnown) {
    const std::size_t count = known.patterns[1].empty() ? 1 : 2;
    if (!std::equal(patterns.begin(), patterns.end(), known.patterns.begin(),
                    known.patterns.begin() + count)) {
      continue;
    }
    if (known.ignore_merges == ignore_merges) return known.name;
    other_words = &known;
  }
  if (other_words != nullptr) {
    user_error(
        "{}: 'model.ignore_merges' is {}, but llama.cpp's {} has {}. Nearest: "
        "export_format=safetensors.",
        tokenizer.file(), ignore_merges, other_words->name, other_words->ignore_merges);
  }
  pre.fail(fmt::format("cuts by {}, {}", fmt::join(patterns, " and "), kNearest));
}

SpaceRule space_rule(const JsonView& tokenizer) {
  const auto normalizer = tokenizer.find("normalizer");
  const auto pre = tokenizer.find("pre_tokenizer");
  if (normalizer && pre) refuse_normalizer(*normalizer);
  if (normalizer) return rule_of_normalizer(*normalizer);
  return rule_of_metaspace(tokenizer.at("pre_tokenizer"));
}

}  // namespace snug
