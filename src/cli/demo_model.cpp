#include "cli/demo_model.h"

#include <fmt/format.h>

#include <array>
#include <cstddef>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/settings_load.h"
#include "core/thread_pool.h"
#include "io/model_writer.h"
#include "passes/pipeline.h"
#include "train/weights.h"

namespace snug {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kBos = 0;
constexpr int kEos = 1;
constexpr int kBytes = 256;
/// Words of the task that are one token each; `Ġ` stands for a space in the byte-level alphabet.
constexpr std::array<const char*, 2> kWords = {"sort", "\u0120="};
constexpr int kVocabulary = 2 + kBytes + static_cast<int>(kWords.size());

std::string utf8(int code) {
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3f))};
}

/// GPT-2's alphabet: bytes that print stand for themselves, the others follow from U+0100 on.
std::vector<std::string> byte_alphabet() {
  std::vector<std::string> letters;
  int next = 0x100;
  for (int byte = 0; byte < kBytes; ++byte) {
    const bool prints = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad);
    letters.push_back(utf8(prints ? byte : next++));
  }
  return letters;
}

Json special_token(int id, const char* content) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

Json sequence(const char* id) { return {{"Sequence", {{"id", id}, {"type_id", 0}}}}; }
Json bos() { return {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}}; }

Json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

std::string tokenizer_config_json() {
  const Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                       {"bos_token", "<s>"},
                       {"eos_token", "</s>"},
                       {"clean_up_tokenization_spaces", false},
                       {"model_max_length", demo_config().max_position_embeddings}};
  return config.dump(2) + "\n";
}

}  // namespace

ModelConfig demo_config() {
  ModelConfig config;
  config.vocab_size = kVocabulary;
  config.hidden_size = 128;
  config.intermediate_size = 352;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 32;
  config.max_position_embeddings = 128;
  config.rms_norm_eps = 1e-5;
  config.tie_word_embeddings = true;
  config.sliding_window.assign(static_cast<std::size_t>(config.num_hidden_layers), 0);
  config.bos_token_id = kBos;
  config.eos_token_ids = {kEos};
  config.dtype = DType::bf16;
  return config;
}

std::string demo_tokenizer_json() {
  Json vocabulary = {{"<s>", kBos}, {"</s>", kEos}};
  int id = kEos;
  for (const std::string& letter : byte_alphabet()) vocabulary[letter] = ++id;
  for (const char* word : kWords) vocabulary[word] = ++id;
  const Json tokenizer = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", {special_token(kBos, "<s>"), special_token(kEos, "</s>")}},
      {"normalizer", nullptr},
      {"pre_tokenizer", byte_level(true)},
      {"post_processor",
       {{"type", "TemplateProcessing"},
        {"single", {bos(), sequence("A")}},
        {"pair", {bos(), sequence("A"), sequence("B")}},
        {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {kBos}}, {"tokens", {"<s>"}}}}}}}},
      {"decoder", byte_level(true)},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", nullptr},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", false},
        {"byte_fallback", false},
        {"ignore_merges", true},  // whole words first
        {"vocab", vocabulary},
        {"merges", Json::array()}}}};
  return tokenizer.dump(2) + "\n";
}

void write_demo_model(const std::filesystem::path& folder, std::uint64_t seed) {
  const ModelConfig config = demo_config();
  const ParameterTable parameters =
      compile_generation(config, {.tokens = 1, .cache_rows = 1}, default_settings()).parameters;
  std::map<std::string, std::vector<std::byte>, std::less<>> weights;
  ThreadPool pool(1);
  for (const Parameter& parameter : parameters) {
    for (const StorageComponent& part : parameter.storage) {
      weights[part.value].resize(static_cast<std::size_t>(part.type.bytes()));
    }
  }
  const auto bytes = [&](std::string_view name) { return std::span(weights.find(name)->second); };
  initialise_weights(parameters, std::array{Owner::model}, config.initializer_range, seed, bytes,
                     pool);
  const SavedWeights saved(parameters);
  const ModelFolderWriter writer(saved.specs(),
                                 {{"config.json", write_config(config)},
                                  {"generation_config.json", write_generation_config(config)},
                                  {"tokenizer.json", demo_tokenizer_json()},
                                  {"tokenizer_config.json", tokenizer_config_json()}},
                                 {});
  writer.write(folder, [&](const TensorSpec& tensor, ModelFolderWriter::Sink sink) {
    saved.write(tensor, bytes, sink);
  });
}

}  // namespace snug
