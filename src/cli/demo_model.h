#pragma once
// The demo's model folder: a small Llama with random weights and a tokenizer for its task, as
// transformers would read them.

#include <cstdint>
#include <filesystem>
#include <string>

#include "model/config.h"

namespace snug {

/// The shape: vocabulary and special tokens of demo_tokenizer_json().
ModelConfig demo_config();

/// tokenizer.json: byte-level BPE without merges, one token a byte and a few whole words; BOS by
/// the post-processor.
std::string demo_tokenizer_json();

/// Writes config, tokenizer and random bf16 weights into `folder`, which exists.
void write_demo_model(const std::filesystem::path& folder, std::uint64_t seed);

}  // namespace snug
