#include "train/gguf_tokenizer.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <unordered_set>

#include "core/error.h"
#include "core/json.h"
#include "data/tokenizer/json_view.h"
#include "data/tokenizer/special_tokens.h"
#include "data/tokenizer/tokenizer.h"
#include "io/file.h"
#include "train/gguf_pre_tokenizer.h"
#include "train/gguf_scores.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

/// tokenizer.ggml.token_type (llama.h, enum llama_token_type).
enum TokenType : std::int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

constexpr std::string_view kSpace = "▁";

struct Vocabulary {
  std::vector<std::string> tokens;  // by id
  std::vector<std::int32_t> types;
};

/// Says where llama.cpp will not look for an added token as the file says.
void note_matching(const JsonView& token, bool byte_level, std::vector<std::string>& notes) {
  const auto is_set = [&](std::string_view key) {
    const auto value = token.find(key);
    return value && value->boolean();
  };
  const std::string content = token.at("content").text();
  for (const char* key : {"lstrip", "rstrip", "single_word"}) {
    if (is_set(key)) {
      notes.push_back(fmt::format("llama.cpp has no {}, which '{}' asks for.", key, content));
    }
  }
  if (!byte_level && is_set("normalized")) {
    notes.push_back(fmt::format(
        "llama.cpp looks for '{}' in the text as it is, not as the normalizer leaves it.",
        content));
  }
}

/// Ids without a token get names that no token has: llama.cpp wants them all different.
void fill_up(Vocabulary& vocabulary) {
  std::unordered_set<std::string> taken(vocabulary.tokens.begin(), vocabulary.tokens.end());
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (vocabulary.types[id] != kUnused) continue;
    std::string name = fmt::format("[PAD{}]", id);
    while (taken.contains(name)) name += '_';
    vocabulary.tokens[id] = name;
  }
}

Vocabulary read_vocabulary(const JsonView& file, std::int64_t size, bool byte_level,
                           std::vector<std::string>& notes) {
  const auto count = static_cast<std::size_t>(size);
  Vocabulary vocabulary{std::vector<std::string>(count), std::vector<std::int32_t>(count, kUnused)};
  const auto set = [&](std::int64_t id, std::string token, TokenType type) {
    vocabulary.tokens[static_cast<std::size_t>(id)] = std::move(token);
    vocabulary.types[static_cast<std::size_t>(id)] = type;
  };
  const JsonView model = file.at("model");
  for (const auto& [token, id] : model.at("vocab").object().items()) {
    set(id.get<std::int64_t>(), token, kNormal);
  }
  if (const auto added = file.find("added_tokens")) {
    for (const JsonView& token : added->elements()) {
      const auto special = token.find("special");
      set(token.at("id").whole(size - 1), token.at("content").text(),
          special && special->boolean() ? kControl : kUserDefined);
      note_matching(token, byte_level, notes);
    }
  }
  fill_up(vocabulary);
  return vocabulary;
}

/// Marks the byte tokens and the unknown token of a sentencepiece vocabulary.
void mark_sentencepiece(const JsonView& model, Vocabulary& vocabulary) {
  const JsonView listed = model.at("vocab");
  const nlohmann::json& ids = listed.object();
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = ids.find(fmt::format("<0x{:02X}>", byte));
    if (found == ids.end()) {
      model.at("vocab").fail(fmt::format(
          "has no <0x{:02X}>; llama.cpp spells unknown characters in all 256 bytes. Nearest: "
          "export_format=safetensors.",
          byte));
    }
    vocabulary.types[found->get<std::size_t>()] = kByte;
  }
  const auto unknown = model.find("unk_token");
  if (!unknown) return;
  const auto found = ids.find(unknown->text());
  if (found != ids.end()) vocabulary.types[found->get<std::size_t>()] = kUnknown;
}

void note_spaces(const SpaceRule& rule, std::vector<std::string>& notes) {
  if (!rule.prefix) return;
  if (rule.unless_there) {
    notes.emplace_back(
        "llama.cpp puts a space before every text; the tokenizer only before those that begin "
        "with none.");
  }
  if (rule.first_only) {
    notes.emplace_back(
        "llama.cpp puts a space behind special tokens; the tokenizer only at the beginning.");
  }
}

void add_byte_level(const JsonView& file, const Vocabulary& vocabulary, GgufMetadata& metadata,
                    std::vector<std::string>& notes) {
  if (const auto normalizer = file.find("normalizer")) {
    if (normalizer->at("type").text() != "NFC") {
      normalizer->fail(
          fmt::format("is {}; llama.cpp normalises no text. Nearest: export_format=safetensors.",
                      normalizer->raw().dump()));
    }
    notes.emplace_back("llama.cpp does not bring text to NFC, as the tokenizer does.");
  }
  metadata.add("tokenizer.ggml.model", "gpt2");
  metadata.add("tokenizer.ggml.pre", pre_tokenizer_name(file));
  metadata.add("tokenizer.ggml.tokens", vocabulary.tokens);
  metadata.add("tokenizer.ggml.token_type", vocabulary.types);
  std::vector<std::string> merges;
  for (const auto& [left, right] : merges_of(file.at("model"))) {
    merges.push_back(fmt::format("{} {}", left, right));
  }
  metadata.add("tokenizer.ggml.merges", merges);
}

void add_sentencepiece(const JsonView& file, Vocabulary vocabulary, GgufMetadata& metadata,
                       std::vector<std::string>& notes) {
  const JsonView model = file.at("model");
  const auto fallback = model.find("byte_fallback");
  if (!fallback || !fallback->boolean()) {
    model.fail(
        "spells text neither in bytes (ByteLevel) nor with byte_fallback; llama.cpp has no such "
        "BPE. Nearest: export_format=safetensors.");
  }
  mark_sentencepiece(model, vocabulary);
  const SpaceRule rule = space_rule(file);
  std::vector<bool> joined(vocabulary.tokens.size());
  for (std::size_t id = 0; id < joined.size(); ++id) {
    const std::string& token = vocabulary.tokens[id];
    joined[id] = vocabulary.types[id] == kNormal;
    if (rule.cuts_words && joined[id] && token.rfind(kSpace) != std::string::npos &&
        token.rfind(kSpace) > 0) {
      file.at("pre_tokenizer")
          .fail(fmt::format("cuts text before each ▁, but '{}' is a token; llama.cpp would use it. "
                            "Nearest: export_format=safetensors.",
                            token));
    }
  }
  note_spaces(rule, notes);
  metadata.add("tokenizer.ggml.model", "llama");
  metadata.add("tokenizer.ggml.pre", "default");
  metadata.add("tokenizer.ggml.tokens", vocabulary.tokens);
  metadata.add("tokenizer.ggml.scores", scores_of(model, vocabulary.tokens, joined));
  metadata.add("tokenizer.ggml.token_type", vocabulary.types);
  metadata.add("tokenizer.ggml.add_space_prefix", rule.prefix);
}

/// What the post-processor puts around a text.
struct Frame {
  std::optional<std::int32_t> before;
  std::optional<std::int32_t> after;
};

Frame frame_of(const Tokenizer& tokenizer, const JsonView& file) {
  const auto plain = tokenizer.encode("a", false);
  const auto full = tokenizer.encode("a", true);
  const auto found = std::search(full.begin(), full.end(), plain.begin(), plain.end());
  const auto before = found - full.begin();
  const auto after = static_cast<std::ptrdiff_t>(full.size() - plain.size()) - before;
  if ((found == full.end() && !plain.empty()) || before > 1 || after > 1) {
    file.at("post_processor")
        .fail(
            "puts more around a text than one token on each side; llama.cpp cannot. Nearest: "
            "export_format=safetensors.");
  }
  Frame frame;
  if (before == 1) frame.before = full.front();
  if (after == 1) frame.after = full.back();
  return frame;
}

void add_special_tokens(const fs::path& folder, const ModelConfig& config,
                        const Tokenizer& tokenizer, const Frame& frame, GgufMetadata& metadata) {
  const SpecialTokens names = read_special_tokens(folder);
  const auto add = [&](std::string_view key, std::optional<std::int64_t> id,
                       const std::optional<std::string>& name,
                       std::optional<std::int64_t> otherwise) {
    if (!id && name) id = tokenizer.token_id(*name);
    if (!id) id = otherwise;
    if (!id || *id < 0 || *id >= config.vocab_size) return;
    metadata.add(fmt::format("tokenizer.ggml.{}_token_id", key), static_cast<std::uint32_t>(*id));
  };
  const auto& eos = config.eos_token_ids;
  add("bos", frame.before, names.bos, config.bos_token_id);
  add("eos", frame.after, names.eos,
      eos.empty() ? std::nullopt : std::optional<std::int64_t>(eos.front()));
  add("unknown", std::nullopt, names.unk, std::nullopt);
  add("padding", std::nullopt, names.pad, config.pad_token_id);
  metadata.add("tokenizer.ggml.add_bos_token", frame.before.has_value());
  metadata.add("tokenizer.ggml.add_eos_token", frame.after.has_value());
}

/// Chat templates by name; the one without a name is `default`.
std::map<std::string, std::string> chat_templates(const fs::path& folder) {
  std::map<std::string, std::string> templates;
  const fs::path config = folder / "tokenizer_config.json";
  if (fs::exists(config)) {
    const nlohmann::json document = parse_json(read_text(config), config.string());
    const JsonView file(document, config.string());
    if (const auto found = file.find("chat_template"); found && found->raw().is_array()) {
      for (const JsonView& named : found->elements()) {
        templates[named.at("name").text()] = named.at("template").text();
      }
    } else if (found) {
      templates["default"] = found->text();
    }
  }
  // As transformers: a file of its own wins.
  if (const fs::path own = folder / "chat_template.jinja"; fs::exists(own)) {
    templates["default"] = read_text(own);
  }
  return templates;
}

void add_chat_templates(const fs::path& folder, GgufMetadata& metadata) {
  std::vector<std::string> others;
  for (const auto& [name, text] : chat_templates(folder)) {
    if (name == "default") {
      metadata.add("tokenizer.chat_template", text);
    } else {
      metadata.add(fmt::format("tokenizer.chat_template.{}", name), text);
      others.push_back(name);
    }
  }
  if (!others.empty()) metadata.add("tokenizer.chat_templates", others);
}

bool has_byte_level(const JsonView& pre_tokenizer) {
  const std::string type = pre_tokenizer.at("type").text();
  if (type != "Sequence") return type == "ByteLevel";
  const auto parts = pre_tokenizer.at("pretokenizers").elements();
  return std::any_of(parts.begin(), parts.end(), has_byte_level);
}

}  // namespace

void add_tokenizer(const fs::path& folder, const ModelConfig& config, GgufMetadata& metadata,
                   std::vector<std::string>& notes) {
  const fs::path path = folder / "tokenizer.json";
  if (!fs::exists(path)) {
    user_error(
        "{}: no tokenizer.json there, and a GGUF file carries its tokenizer. Copy the tokenizer's "
        "files of the base model there, or set export_format=safetensors.",
        folder.string());
  }
  const std::string text = read_text(path);
  const Tokenizer tokenizer = Tokenizer::from_text(text, path.string());
  if (tokenizer.vocab_size() > config.vocab_size) {
    user_error("{}: has ids up to {}, but config.json has vocab_size {}. Is it another model's?",
               path.string(), tokenizer.vocab_size() - 1, config.vocab_size);
  }
  const nlohmann::json document = parse_json(text, path.string());
  const JsonView file(document, path.string());
  const auto pre = file.find("pre_tokenizer");
  const bool byte_level = pre && has_byte_level(*pre);
  Vocabulary vocabulary = read_vocabulary(file, config.vocab_size, byte_level, notes);
  if (byte_level) {
    add_byte_level(file, vocabulary, metadata, notes);
  } else {
    add_sentencepiece(file, std::move(vocabulary), metadata, notes);
  }
  add_special_tokens(folder, config, tokenizer, frame_of(tokenizer, file), metadata);
  add_chat_templates(folder, metadata);
}

}  // namespace snug
