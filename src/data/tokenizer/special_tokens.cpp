#include "data/tokenizer/special_tokens.h"

#include <fstream>
#include <iterator>

#include "core/json.h"
#include "data/tokenizer/json_view.h"

namespace snug {
namespace {

constexpr double kUnlimited = 1e15;  // transformers writes 1e30

void fill(std::optional<std::string>& token, const JsonView& file, std::string_view key) {
  if (token) return;
  const auto value = file.find(key);
  if (!value) return;
  token = value->raw().is_object() ? value->at("content").text() : value->text();
}

void read(const std::filesystem::path& path, SpecialTokens& tokens) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) return;
  const std::string text(std::istreambuf_iterator<char>(stream), {});
  const nlohmann::json document = parse_json(text, path.string());
  const JsonView file(document, path.string());
  fill(tokens.bos, file, "bos_token");
  fill(tokens.eos, file, "eos_token");
  fill(tokens.pad, file, "pad_token");
  fill(tokens.unk, file, "unk_token");
  const auto length = file.find("model_max_length");
  if (!length || tokens.model_max_length) return;
  if (!length->raw().is_number()) length->fail("is not a number.");
  const auto value = length->raw().get<double>();
  if (value >= 1 && value < kUnlimited) tokens.model_max_length = static_cast<int64_t>(value);
}

}  // namespace

SpecialTokens read_special_tokens(const std::filesystem::path& model_folder) {
  SpecialTokens tokens;
  read(model_folder / "tokenizer_config.json", tokens);
  read(model_folder / "special_tokens_map.json", tokens);
  return tokens;
}

}  // namespace snug
