#include "train/gguf_model.h"

#include <algorithm>
#include <array>
#include <limits>

#include "core/error.h"
#include "ir/rope.h"
#include "train/export_stream.h"
#include "train/gguf_tokenizer.h"
#include "train/weights.h"

namespace snug {
namespace {

/// What a Hugging Face module is called in GGUF (gguf-py's tensor_mapping.py).
struct ModuleName {
  std::string_view theirs;
  std::string_view ours;
};
constexpr auto kModelNames = std::to_array<ModuleName>({
    {"model.embed_tokens", "token_embd"},
    {"model.norm", "output_norm"},
    {"lm_head", "output"},
});
constexpr auto kLayerNames = std::to_array<ModuleName>({
    {"input_layernorm", "attn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"},
    {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
});

/// Numbers of general.file_type (llama.h, enum llama_ftype).
std::uint32_t file_type(GgmlType type) {
  switch (type) {
    case GgmlType::f32:
      return 0;
    case GgmlType::f16:
      return 1;
    case GgmlType::q8_0:
      return 7;
    case GgmlType::bf16:
      return 32;
  }
  internal_error("type {} has no file type", static_cast<int>(type));
}

/// llama.cpp's name of the architecture. Mistral's is Llama's.
std::string architecture_of(Family family) {
  switch (family) {
    case Family::llama:
    case Family::mistral:
      return "llama";
    case Family::qwen2:
      return "qwen2";
    case Family::qwen3:
      return "qwen3";
  }
  internal_error("family {} has no architecture", static_cast<int>(family));
}

/// `blk.0.attn_q.weight`
std::string gguf_name(const Parameter& parameter) {
  const std::string prefix =
      parameter.layer < 0 ? "" : fmt::format("model.layers.{}.", parameter.layer);
  const std::string_view name = std::string_view(parameter.name).substr(prefix.size());
  const std::size_t dot = name.rfind('.');
  const auto rows = parameter.layer < 0 ? std::span<const ModuleName>(kModelNames)
                                        : std::span<const ModuleName>(kLayerNames);
  for (const ModuleName& row : rows) {
    if (row.theirs != name.substr(0, dot)) continue;
    const std::string block = parameter.layer < 0 ? "" : fmt::format("blk.{}.", parameter.layer);
    return fmt::format("{}{}{}", block, row.ours, name.substr(dot));
  }
  internal_error("parameter {} has no name in GGUF", parameter.name);
}

/// Heads whose rows are dealt out. Llama's graph in llama.cpp turns neighbouring rows together,
/// Qwen's turns rows half a head apart, as transformers does.
std::int64_t dealt_heads(const std::string& gguf_name, const ModelConfig& config) {
  if (architecture_of(config.family) != "llama") return 0;
  if (gguf_name.find(".attn_q.") != std::string::npos) return config.num_attention_heads;
  if (gguf_name.find(".attn_k.") != std::string::npos) return config.num_key_value_heads;
  return 0;
}

std::uint32_t u32(std::int64_t value) {
  check(value >= 0 && value <= std::numeric_limits<std::uint32_t>::max(), "{} as u32", value);
  return static_cast<std::uint32_t>(value);
}

/// UserError for what these architectures have no tensor or key for in llama.cpp.
void refuse_unknown_shapes(const ModelConfig& config, const std::string& where) {
  const std::string architecture = architecture_of(config.family);
  constexpr auto kNearest = "Nearest: export_format=safetensors.";
  if (architecture == "llama") return;
  if (config.rope.kind == RopeConfig::Kind::llama3) {
    user_error("{}: llama.cpp reads rope_type llama3 for Llama only, not for {}. {}", where,
               architecture, kNearest);
  }
  if (config.attention_output_bias) {
    user_error("{}: llama.cpp has no bias of o_proj for {} (attention_bias). {}", where,
               architecture, kNearest);
  }
  if (architecture == "qwen2" &&
      config.head_dim * config.num_attention_heads != config.hidden_size) {
    user_error(
        "{}: llama.cpp's qwen2 has heads of hidden_size / num_attention_heads = {}, not {}. {}",
        where, config.hidden_size / config.num_attention_heads, config.head_dim, kNearest);
  }
}

void add_hyperparameters(const ModelSource& model, GgmlType type, GgufMetadata& metadata) {
  const ModelConfig& config = model.config;
  const std::string architecture = architecture_of(config.family);
  const auto key = [&](std::string_view name) { return fmt::format("{}.{}", architecture, name); };
  metadata.add("general.architecture", architecture);
  metadata.add("general.type", "model");
  metadata.add("general.name", model.name);
  metadata.add("general.file_type", file_type(type));
  metadata.add("general.quantization_version", std::uint32_t{2});
  metadata.add(key("vocab_size"), u32(config.vocab_size));
  metadata.add(key("context_length"), u32(config.max_position_embeddings));
  metadata.add(key("embedding_length"), u32(config.hidden_size));
  metadata.add(key("block_count"), u32(config.num_hidden_layers));
  metadata.add(key("feed_forward_length"), u32(config.intermediate_size));
  metadata.add(key("attention.head_count"), u32(config.num_attention_heads));
  metadata.add(key("attention.head_count_kv"), u32(config.num_key_value_heads));
  metadata.add(key("attention.key_length"), u32(config.head_dim));
  metadata.add(key("attention.value_length"), u32(config.head_dim));
  metadata.add(key("attention.layer_norm_rms_epsilon"), static_cast<float>(config.rms_norm_eps));
  metadata.add(key("rope.dimension_count"), u32(config.head_dim));
  metadata.add(key("rope.freq_base"), static_cast<float>(config.rope.theta));
  if (config.rope.kind == RopeConfig::Kind::linear) {
    metadata.add(key("rope.scaling.type"), "linear");
    metadata.add(key("rope.scaling.factor"), static_cast<float>(config.rope.factor));
  }
}

/// What llama3 scaling divides each pair's frequency by: llama.cpp's rope_freqs.weight.
std::vector<float> rope_divisors(const ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  const std::int64_t half = config.head_dim / 2;
  const Attributes plain = {{"half", half}, {"theta", rope.theta}};
  const Attributes scaled = {{"half", half},
                             {"kind", std::string("llama3")},
                             {"theta", rope.theta},
                             {"factor", rope.factor},
                             {"low_freq_factor", rope.low_freq_factor},
                             {"high_freq_factor", rope.high_freq_factor},
                             {"original_positions", rope.original_max_position_embeddings}};
  std::vector<float> divisors;
  for (std::int64_t pair = 0; pair < half; ++pair) {
    divisors.push_back(
        static_cast<float>(rope_frequency(plain, pair) / rope_frequency(scaled, pair)));
  }
  return divisors;
}

/// The type of one tensor: vectors are fp32, and rows that are no whole blocks fp16.
GgmlType type_of(const std::vector<std::int64_t>& shape, GgmlType wanted) {
  if (shape.size() < 2) return GgmlType::f32;
  return shape.back() % block_elements(wanted) == 0 ? wanted : GgmlType::f16;
}

void note_windows(const ModelConfig& config, std::vector<std::string>& notes) {
  const auto& windows = config.sliding_window;
  const auto widest = std::max_element(windows.begin(), windows.end());
  if (widest == windows.end() || *widest == 0 || *widest >= config.max_position_embeddings) return;
  notes.push_back(fmt::format(
      "llama.cpp has no sliding window for this architecture: texts of more than {} tokens will "
      "differ from transformers.",
      *widest));
}

}  // namespace

GgufModel make_gguf_model(const ModelSource& model, const ModelWeights& weights,
                          const ParameterTable& parameters, std::optional<GgmlType> type) {
  const ModelConfig& config = model.config;
  refuse_unknown_shapes(config, (model.folder / "config.json").string());
  GgufModel gguf;
  std::int64_t odd_rows = 0;
  gguf.type = type.value_or(ggml_type(*stored_tensor(parameters.front(), weights).dtype));
  for (const Parameter& parameter : parameters) {
    const TensorView& view = stored_tensor(parameter, weights);
    const std::string name = gguf_name(parameter);
    const GgmlType own = type_of(view.shape, gguf.type);
    if (view.shape.size() > 1 && own != gguf.type) ++odd_rows;
    gguf.sources.push_back({{name, own, view.shape}, &view, dealt_heads(name, config)});
  }
  if (config.rope.kind == RopeConfig::Kind::llama3) {
    GgufSource& divisors = gguf.sources.emplace_back();
    divisors.tensor.name = "rope_freqs.weight";
    divisors.tensor.shape.push_back(config.head_dim / 2);
    divisors.values = rope_divisors(config);
  }
  if (odd_rows > 0) {
    gguf.notes.push_back(fmt::format("{} matrices are F16: their rows are no multiple of {} long.",
                                     odd_rows, block_elements(gguf.type)));
  }
  note_windows(config, gguf.notes);
  add_hyperparameters(model, gguf.type, gguf.metadata);
  add_tokenizer(model.folder, config, gguf.metadata, gguf.notes);
  return gguf;
}

}  // namespace snug
