#pragma once
// What a model is: the numbers of config.json that its arithmetic depends on.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/packed_format.h"

namespace snug {

enum class Family : std::uint8_t { llama, mistral, qwen2, qwen3 };

/// Rotary position embedding. The inverse frequency of pair i is theta^(-2i/head_dim); `linear`
/// divides it by `factor`; `llama3` divides the low frequencies and blends up to the high ones
/// (transformers: modeling_rope_utils.py).
struct RopeConfig {
  enum class Kind : std::uint8_t { plain, linear, llama3 };
  Kind kind = Kind::plain;
  double theta = 10000;
  double factor = 1;                                  ///< linear, llama3
  double low_freq_factor = 1;                         ///< llama3
  double high_freq_factor = 4;                        ///< llama3
  std::int64_t original_max_position_embeddings = 0;  ///< llama3
  bool operator==(const RopeConfig&) const = default;
};

/// quantization_config: how a bitsandbytes folder stores the linear weights of the layers.
struct StoredQuantization {
  PackedFormat format = PackedFormat::nf4;
  bool double_quant = false;
  std::vector<std::string> skip;  ///< modules stored as they are
  bool operator==(const StoredQuantization&) const = default;
};

struct ModelConfig {
  Family family = Family::llama;
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;  ///< divides num_attention_heads
  std::int64_t head_dim = 0;             ///< even
  std::int64_t max_position_embeddings = 0;
  double rms_norm_eps = 0;
  RopeConfig rope;
  bool attention_bias = false;         ///< biases on q_proj, k_proj, v_proj
  bool attention_output_bias = false;  ///< bias on o_proj
  bool mlp_bias = false;               ///< biases on gate_proj, up_proj, down_proj
  bool qk_norm = false;                ///< RMS norm of each query's and key's head
  bool tie_word_embeddings = false;    ///< lm_head.weight is model.embed_tokens.weight
  /// One a layer: 0 sees everything before it; w sees itself and the w - 1 positions before it.
  std::vector<std::int64_t> sliding_window;
  std::optional<std::int64_t> bos_token_id;
  std::vector<std::int64_t> eos_token_ids;  ///< none, one or several
  std::optional<std::int64_t> pad_token_id;
  std::optional<DType> dtype;  ///< of the stored weights, where the file says it
  std::optional<StoredQuantization> quantization;
  double initializer_range = 0.02;  ///< standard deviation of random weights
  bool operator==(const ModelConfig&) const = default;
};

/// Reads config.json. Absent keys take transformers' defaults for the family. UserError naming
/// `where` (the file) and the key for what is unknown and may change the arithmetic, not supported,
/// contradictory or beyond snug's limits.
ModelConfig parse_config(std::string_view json, std::string_view where);

/// config.json in the spelling of transformers 5; parse_config reads it back equal.
std::string write_config(const ModelConfig& config);

/// generation_config.json with the model's special tokens.
std::string write_generation_config(const ModelConfig& config);

/// The config.json text with a head of its own.
std::string config_untied(std::string_view json, std::string_view where);

/// The text of a config.json with its dtype replaced and all else kept, in order.
std::string config_with_dtype(std::string_view json, std::string_view where, DType dtype);

/// As transformers spells it: `qwen2`.
std::string_view name_of(Family family);

/// Parameters of the model; tied embeddings count once.
std::int64_t parameter_count(const ModelConfig& config);

}  // namespace snug
