#pragma once
// What a model folder says about its special tokens beside tokenizer.json.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace snug {

/// Texts of the special tokens; look their ids up with Tokenizer::token_id.
struct SpecialTokens {
  std::optional<std::string> bos;
  std::optional<std::string> eos;
  std::optional<std::string> pad;
  std::optional<std::string> unk;
  std::optional<int64_t> model_max_length;  // none when the file has transformers' "unlimited"
};

/// Reads tokenizer_config.json and, for what is not there, special_tokens_map.json; either may be
/// missing. A token is text or an object with `content`. UserError naming file and key otherwise.
SpecialTokens read_special_tokens(const std::filesystem::path& model_folder);

}  // namespace snug
