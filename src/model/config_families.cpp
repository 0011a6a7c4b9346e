#include "model/config_families.h"

#include <algorithm>
#include <array>

#include "core/error.h"

namespace snug {
namespace {

// Defaults: transformers 5.23, models/*/configuration_*.py.
constexpr std::array<FamilyRow, 4> kFamilies = {{
    {.family = Family::llama,
     .model_type = "llama",
     .architecture = "LlamaForCausalLM",
     .vocab_size = 32000,
     .intermediate_size = 11008,
     .num_key_value_heads = 0,
     .head_dim = 0,
     .max_position_embeddings = 2048,
     .bos_token_id = 1,
     .eos_token_id = 2,
     .bias = BiasRule::key_for_qkvo,
     .mlp_bias_key = true,
     .qk_norm = false,
     .window = WindowRule::none,
     .whole_heads = true},
    {.family = Family::mistral,
     .model_type = "mistral",
     .architecture = "MistralForCausalLM",
     .vocab_size = 32000,
     .intermediate_size = 14336,
     .num_key_value_heads = 8,
     .head_dim = 0,
     .max_position_embeddings = 131072,
     .bos_token_id = 1,
     .eos_token_id = 2,
     .bias = BiasRule::never,
     .mlp_bias_key = false,
     .qk_norm = false,
     .window = WindowRule::every_layer,
     .whole_heads = false},
    {.family = Family::qwen2,
     .model_type = "qwen2",
     .architecture = "Qwen2ForCausalLM",
     .vocab_size = 151936,
     .intermediate_size = 22016,
     .num_key_value_heads = 32,
     .head_dim = 0,
     .max_position_embeddings = 32768,
     .bos_token_id = std::nullopt,
     .eos_token_id = std::nullopt,
     .bias = BiasRule::always_qkv,
     .mlp_bias_key = false,
     .qk_norm = false,
     .window = WindowRule::by_layer_types,
     .whole_heads = false},
    {.family = Family::qwen3,
     .model_type = "qwen3",
     .architecture = "Qwen3ForCausalLM",
     .vocab_size = 151936,
     .intermediate_size = 22016,
     .num_key_value_heads = 32,
     .head_dim = 128,
     .max_position_embeddings = 32768,
     .bos_token_id = std::nullopt,
     .eos_token_id = std::nullopt,
     .bias = BiasRule::key_for_qkvo,
     .mlp_bias_key = false,
     .qk_norm = true,
     .window = WindowRule::by_layer_types,
     .whole_heads = false},
}};

// Common attributes of transformers' PretrainedConfig (also those of older versions), generation
// parameters, and marks that well-known publishers leave.
constexpr auto kIgnored = std::to_array<std::string_view>({
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_flash_attn_2_enabled",
    "_name_or_path",
    "assistant_confidence_threshold",
    "assistant_lookbehind",
    "attn_implementation",
    "bad_words_ids",
    "begin_suppress_tokens",
    "chunk_size_feed_forward",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "epsilon_cutoff",
    "eta_cutoff",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "id2label",
    "is_decoder",
    "is_llama_config",
    "label2id",
    "length_penalty",
    "max_length",
    "max_sequence_length",
    "max_window_layers",
    "min_length",
    "name_or_path",
    "no_repeat_ngram_size",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "target_lookbehind",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_last_hidden_states",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
});

constexpr auto kNeutral = std::to_array<NeutralKey>({
    {"add_cross_attention", "[false, null]"},
    {"attention_bias", "[false, null]"},
    {"attention_dropout", "[0, null]"},
    {"auto_map", "[null, {}]"},
    {"cross_attention_hidden_size", "[null]"},
    {"hidden_act", R"(["silu", "swish"])"},
    {"hidden_dropout", "[0, null]"},
    {"is_encoder_decoder", "[false, null]"},
    {"mlp_bias", "[false, null]"},
    {"partial_rotary_factor", "[1, null]"},
    {"per_layer_config", "[null, {}]"},
    {"pruned_heads", "[{}, null]"},
    {"residual_dropout", "[0, null]"},
    {"rope_interleaved", "[false, null]"},
    {"sliding_window", "[null]"},
    {"tie_encoder_decoder", "[false, null]"},
    {"use_sliding_window", "[false, null]"},
});

static_assert(std::is_sorted(kIgnored.begin(), kIgnored.end()));

}  // namespace

std::span<const FamilyRow> family_rows() { return kFamilies; }

const FamilyRow& family_row(Family family) {
  for (const FamilyRow& row : kFamilies) {
    if (row.family == family) return row;
  }
  internal_error("family {} has no row", static_cast<int>(family));
}

bool is_ignored_key(std::string_view key) {
  return std::binary_search(kIgnored.begin(), kIgnored.end(), key);
}

std::optional<NeutralKey> neutral_key(std::string_view key) {
  for (const NeutralKey& row : kNeutral) {
    if (row.key == key) return row;
  }
  return std::nullopt;
}

std::string_view name_of(Family family) { return family_row(family).model_type; }

}  // namespace snug
