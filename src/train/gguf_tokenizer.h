#pragma once
// A model folder's tokenizer as llama.cpp wants it in a GGUF file.

#include <filesystem>
#include <string>
#include <vector>

#include "io/gguf.h"
#include "model/config.h"

namespace snug {

/// Adds the `tokenizer.*` keys: tokens with their types, merges or scores, the name of the
/// pre-tokenizer, special tokens, chat templates. Byte-level BPE becomes model `gpt2`,
/// sentencepiece's BPE with byte tokens `llama`. Ids that no token has are filled up to vocab_size.
/// Each way in which llama.cpp will cut some text differently adds a note. UserError for a folder
/// without tokenizer.json and for tokenizers that llama.cpp cannot represent.
void add_tokenizer(const std::filesystem::path& folder, const ModelConfig& config,
                   GgufMetadata& metadata, std::vector<std::string>& notes);

}  // namespace snug
