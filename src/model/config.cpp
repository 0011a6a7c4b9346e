#include "model/config.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "model/config_families.h"
#include "model/config_keys.h"

namespace snug {
namespace {

using Json = nlohmann::json;

// Limits that keep every product of sizes, in bytes of optimizer state, below 2^63.
constexpr std::int64_t kMostVocabulary = 268'435'456;
constexpr std::int64_t kMostWidth = 1'048'576;
constexpr std::int64_t kMostInner = 4'194'304;
constexpr std::int64_t kMostLayers = 4'096;
constexpr std::int64_t kMostPositions = 2'147'483'648;

const FamilyRow& read_family(ConfigKeys& keys) {
  const std::string model_type = keys.text("model_type");
  const auto rows = family_rows();
  const auto row = std::find_if(rows.begin(), rows.end(),
                                [&](const FamilyRow& r) { return r.model_type == model_type; });
  if (row == rows.end()) {
    std::string known;
    for (const FamilyRow& r : rows) known += fmt::format(" {}", r.model_type);
    user_error("{} is '{}'. Families that snug knows:{}.", keys.at("model_type"), model_type,
               known);
  }
  if (keys.has("architectures")) {
    const Json& names = *keys.find("architectures");
    if (!names.is_array() || (!names.empty() && names != Json::array({row->architecture}))) {
      user_error("{} is {}; for model_type '{}' snug supports only {}.", keys.at("architectures"),
                 names.dump(-1, ' ', true), model_type, row->architecture);
    }
  }
  return *row;
}

void read_heads(ConfigKeys& keys, const FamilyRow& row, ModelConfig& config) {
  const std::int64_t heads = config.num_attention_heads;
  const std::int64_t kv_absent = row.num_key_value_heads == 0 ? heads : row.num_key_value_heads;
  config.num_key_value_heads =
      keys.size_or_null("num_key_value_heads", kv_absent, heads, kMostWidth);
  if (heads % config.num_key_value_heads != 0) {
    user_error("{} is {}, which does not divide num_attention_heads {}.",
               keys.at("num_key_value_heads"), config.num_key_value_heads, heads);
  }
  config.head_dim = keys.size_or_null("head_dim", row.head_dim, 0, kMostWidth);
  if ((config.head_dim == 0 || row.whole_heads) && config.hidden_size % heads != 0) {
    user_error("{} is {}, which is no multiple of num_attention_heads {}.", keys.at("hidden_size"),
               config.hidden_size, heads);
  }
  if (config.head_dim == 0) config.head_dim = config.hidden_size / heads;
  if (config.head_dim % 2 != 0) {
    user_error("{} is {}; rotary embedding needs an even number.", keys.at("head_dim"),
               config.head_dim);
  }
  if (heads * config.head_dim > kMostInner) {
    user_error("{} is {} and head_dim {}; snug's limit for their product is {}.",
               keys.at("num_attention_heads"), heads, config.head_dim, kMostInner);
  }
}

/// The key under which the rope parameters are, or null: both spellings are read.
const char* rope_key(ConfigKeys& keys) {
  const auto used = [&](const char* key) { return keys.has(key) && !keys.find(key)->empty(); };
  const bool old_spelling = used("rope_scaling");
  const bool new_spelling = used("rope_parameters");
  if (old_spelling && new_spelling && *keys.find("rope_scaling") != *keys.find("rope_parameters")) {
    user_error("{} and 'rope_parameters' differ. Keep one.", keys.at("rope_scaling"));
  }
  if (old_spelling) return "rope_scaling";
  return new_spelling ? "rope_parameters" : nullptr;
}

RopeConfig::Kind read_rope_kind(ConfigKeys& rope) {
  const bool has_new = rope.has("rope_type");
  const bool has_old = rope.has("type");
  if (!has_new && !has_old) return RopeConfig::Kind::plain;
  const std::string kind = rope.text(has_new ? "rope_type" : "type");
  if (has_new && has_old && rope.text("type") != kind) {
    user_error("{} is '{}' and 'type' is '{}'. Keep one.", rope.at("rope_type"), kind,
               rope.text("type"));
  }
  if (kind == "default") return RopeConfig::Kind::plain;
  if (kind == "linear") return RopeConfig::Kind::linear;
  if (kind == "llama3") return RopeConfig::Kind::llama3;
  user_error("{} is '{}'; snug supports default, linear and llama3.",
             rope.at(has_new ? "rope_type" : "type"), kind);
}

void read_llama3(ConfigKeys& keys, ConfigKeys& inner, std::int64_t max_positions,
                 RopeConfig& rope) {
  constexpr auto kKey = "original_max_position_embeddings";
  rope.low_freq_factor = inner.required_positive("low_freq_factor");
  rope.high_freq_factor = inner.required_positive("high_freq_factor");
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    user_error("{} is {}, expected more than low_freq_factor {}.", inner.at("high_freq_factor"),
               rope.high_freq_factor, rope.low_freq_factor);
  }
  const std::int64_t outer = keys.size(kKey, 0, kMostPositions);
  rope.original_max_position_embeddings =
      inner.size(kKey, outer == 0 ? max_positions : outer, kMostPositions);
  if (outer != 0 && outer != rope.original_max_position_embeddings) {
    user_error("{} is {} and {} {}. Keep one.", keys.at(kKey), outer, inner.at(kKey),
               rope.original_max_position_embeddings);
  }
}

RopeConfig read_rope(ConfigKeys& keys, std::string_view where, const FamilyRow& row,
                     std::int64_t max_positions) {
  RopeConfig rope;
  const bool has_theta = keys.has("rope_theta");
  if (has_theta) rope.theta = keys.positive("rope_theta", 0);
  keys.find("original_max_position_embeddings");  // counts for llama3 only
  const char* key = rope_key(keys);
  if (key == nullptr) return rope;
  ConfigKeys inner(*keys.find(key), where, fmt::format("{}.", key));
  const double theta = inner.has("rope_theta") ? inner.positive("rope_theta", 0) : rope.theta;
  if (has_theta && theta != rope.theta) {
    user_error("{} is {} and {} {}. Keep one.", keys.at("rope_theta"), rope.theta,
               inner.at("rope_theta"), theta);
  }
  rope.theta = theta;
  rope.kind = read_rope_kind(inner);
  if (rope.kind != RopeConfig::Kind::plain) {
    rope.factor = inner.required_positive("factor");
    if (rope.factor < 1) {
      user_error("{} is {}, expected at least 1.", inner.at("factor"), rope.factor);
    }
  }
  if (rope.kind == RopeConfig::Kind::llama3) read_llama3(keys, inner, max_positions, rope);
  inner.finish(row.model_type);
  return rope;
}

/// Checks `layer_types` against `windows`, or for Qwen takes the windows from it.
void apply_layer_types(ConfigKeys& keys, bool chooses, std::int64_t window, ModelConfig& config) {
  if (!keys.has("layer_types")) return;
  const Json& types = *keys.find("layer_types");
  const auto count = static_cast<std::int64_t>(types.size());
  if (!types.is_array() || count != config.num_hidden_layers) {
    user_error("{} has {} entries, num_hidden_layers is {}.", keys.at("layer_types"), count,
               config.num_hidden_layers);
  }
  for (std::size_t i = 0; i < types.size(); ++i) {
    const bool sliding = types[i] == "sliding_attention";
    if (!sliding && types[i] != "full_attention") {
      user_error("{} has {} for layer {}; snug supports full_attention and sliding_attention.",
                 keys.at("layer_types"), types[i].dump(-1, ' ', true), i);
    }
    if (sliding && window == 0) {
      user_error("{} makes layer {} sliding, but no sliding_window is in use.",
                 keys.at("layer_types"), i);
    }
    if (chooses) config.sliding_window[i] = sliding ? window : 0;
    if (sliding != (config.sliding_window[i] != 0)) {
      user_error("{} makes layer {} full, but sliding_window {} holds for every layer.",
                 keys.at("layer_types"), i, window);
    }
  }
}

void read_windows(ConfigKeys& keys, const FamilyRow& row, ModelConfig& config) {
  constexpr std::int64_t kAbsentWindow = 4096;
  constexpr std::int64_t kAbsentMaxWindowLayers = 28;
  config.sliding_window.assign(static_cast<std::size_t>(config.num_hidden_layers), 0);
  std::int64_t window = 0;
  if (row.window == WindowRule::every_layer) {
    window = keys.size_or_null("sliding_window", kAbsentWindow, 0, kMostPositions);
    std::fill(config.sliding_window.begin(), config.sliding_window.end(), window);
  }
  const bool chooses = row.window == WindowRule::by_layer_types;
  if (chooses) {
    const bool used = keys.flag("use_sliding_window", false);
    window = keys.size_or_null("sliding_window", kAbsentWindow, 0, kMostPositions);
    if (!used) window = 0;
    const std::int64_t first =  // layers from here on slide
        keys.size("max_window_layers", kAbsentMaxWindowLayers, kMostPositions, 0);
    for (std::int64_t i = first; i < config.num_hidden_layers; ++i) {
      config.sliding_window[static_cast<std::size_t>(i)] = window;
    }
  }
  apply_layer_types(keys, chooses, window, config);
}

/// A token id; none for null and for -1, which some publishers write for it.
std::optional<std::int64_t> token_id(const ConfigKeys& keys, std::string_view key,
                                     const Json& value, std::int64_t vocab_size) {
  if (value.is_null() || value == -1) return std::nullopt;
  if (!value.is_number_integer() || value < 0 || value >= vocab_size) {
    user_error("{} is {}, expected null or an id below vocab_size {}.", keys.at(key),
               value.dump(-1, ' ', true), vocab_size);
  }
  return value.get<std::int64_t>();
}

void read_tokens(ConfigKeys& keys, const FamilyRow& row, ModelConfig& config) {
  config.bos_token_id = row.bos_token_id;
  if (const Json* bos = keys.find("bos_token_id")) {
    config.bos_token_id = token_id(keys, "bos_token_id", *bos, config.vocab_size);
  }
  // Padding never reaches the model: an id beyond the vocabulary, as some publishers write, is
  // none.
  const Json* pad = keys.find("pad_token_id");
  const bool beyond = pad != nullptr && pad->is_number() && *pad >= config.vocab_size;
  if (pad != nullptr && !beyond) {
    config.pad_token_id = token_id(keys, "pad_token_id", *pad, config.vocab_size);
  }
  const Json* eos = keys.find("eos_token_id");
  if (eos == nullptr) {
    if (row.eos_token_id) config.eos_token_ids = {*row.eos_token_id};
    return;
  }
  for (const Json& value : eos->is_array() ? *eos : Json::array({*eos})) {
    const auto id = token_id(keys, "eos_token_id", value, config.vocab_size);
    if (id) config.eos_token_ids.push_back(*id);
  }
}

std::optional<DType> read_dtype(ConfigKeys& keys) {
  const char* key = keys.has("dtype") ? "dtype" : "torch_dtype";
  keys.find("torch_dtype");
  if (!keys.has(key)) return std::nullopt;
  const std::string name = keys.text(key);
  if (name == "float64" || name == "double") return DType::f64;
  if (name == "float32" || name == "float") return DType::f32;
  if (name == "bfloat16") return DType::bf16;
  if (name == "float16" || name == "half") return DType::f16;
  user_error("{} is '{}'; snug supports float64, float32, bfloat16 and float16.{}", keys.at(key),
             name, name == "auto" ? " Delete the key to go by the files, as auto means." : "");
}

std::vector<std::string> read_names(ConfigKeys& keys, const char* key) {
  std::vector<std::string> names;
  if (!keys.has(key)) return names;
  const Json& list = *keys.find(key);
  const bool texts = list.is_array() && std::all_of(list.begin(), list.end(),
                                                    [](const Json& n) { return n.is_string(); });
  if (!texts) {
    user_error("{} is {}, expected a list of names.", keys.at(key), list.dump(-1, ' ', true));
  }
  return list.get<std::vector<std::string>>();
}

std::optional<StoredQuantization> read_quantization(ConfigKeys& keys, std::string_view where,
                                                    const FamilyRow& row) {
  if (!keys.has("quantization_config")) return std::nullopt;
  const Json& object = *keys.find("quantization_config");
  if (!object.is_object()) {
    user_error("{} is {}, expected an object.", keys.at("quantization_config"),
               object.dump(-1, ' ', true));
  }
  ConfigKeys inner(object, where, "quantization_config.");
  const std::string method = inner.has("quant_method") ? inner.text("quant_method") : "none";
  if (method != "bitsandbytes") {
    user_error("{} is '{}'; snug reads weights quantised by bitsandbytes, and others unquantised.",
               inner.at("quant_method"), method);
  }
  const bool four = inner.flag("load_in_4bit", false);
  const bool eight = inner.flag("load_in_8bit", false);
  if (four == eight) {
    user_error("{} and 'load_in_8bit' are both {}, expected one of them to be true.",
               inner.at("load_in_4bit"), four);
  }
  // Kernels and temporary types, the other width's keys and their older copies.
  for (const char* key :
       {"_load_in_4bit", "_load_in_8bit", "bnb_4bit_compute_dtype", "bnb_4bit_quant_storage",
        "bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "llm_int8_enable_fp32_cpu_offload",
        "llm_int8_threshold"}) {
    inner.find(key);
  }
  if (inner.flag("llm_int8_has_fp16_weight", false)) {
    user_error("{} is true; snug reads weights that are stored in 8 or 4 bits.",
               inner.at("llm_int8_has_fp16_weight"));
  }
  StoredQuantization stored;
  stored.skip = read_names(inner, "llm_int8_skip_modules");
  inner.finish(row.model_type);
  if (eight) {
    stored.format = PackedFormat::int8;
    return stored;
  }
  const std::string type =
      inner.has("bnb_4bit_quant_type") ? inner.text("bnb_4bit_quant_type") : "fp4";
  const auto format = packed_format_from_name(type);
  if (!format || !is_four_bit(*format)) {
    user_error("{} is '{}'; snug knows nf4 and fp4.", inner.at("bnb_4bit_quant_type"), type);
  }
  stored.format = *format;
  stored.double_quant = inner.flag("bnb_4bit_use_double_quant", false);
  return stored;
}

void read_sizes(ConfigKeys& keys, const FamilyRow& row, ModelConfig& config) {
  config.vocab_size = keys.size("vocab_size", row.vocab_size, kMostVocabulary);
  config.hidden_size = keys.size("hidden_size", 4096, kMostWidth);
  config.intermediate_size = keys.size("intermediate_size", row.intermediate_size, kMostInner);
  config.num_hidden_layers = keys.size("num_hidden_layers", 32, kMostLayers);
  config.num_attention_heads = keys.size("num_attention_heads", 32, kMostWidth);
  config.max_position_embeddings =
      keys.size("max_position_embeddings", row.max_position_embeddings, kMostPositions);
  config.rms_norm_eps = keys.positive("rms_norm_eps", 1e-6);
  config.initializer_range = keys.positive("initializer_range", 0.02);
}

}  // namespace

ModelConfig parse_config(std::string_view json, std::string_view where) {
  const Json object = parse_json(json, where);
  ConfigKeys keys(object, where, "");
  const FamilyRow& row = read_family(keys);
  ModelConfig config;
  config.family = row.family;
  read_sizes(keys, row, config);
  read_heads(keys, row, config);
  config.rope = read_rope(keys, where, row, config.max_position_embeddings);
  const bool bias = row.bias == BiasRule::key_for_qkvo && keys.flag("attention_bias", false);
  config.attention_bias = bias || row.bias == BiasRule::always_qkv;
  config.attention_output_bias = bias;
  config.mlp_bias = row.mlp_bias_key && keys.flag("mlp_bias", false);
  config.qk_norm = row.qk_norm;
  config.tie_word_embeddings = keys.flag("tie_word_embeddings", false);
  read_windows(keys, row, config);
  read_tokens(keys, row, config);
  config.dtype = read_dtype(keys);
  config.quantization = read_quantization(keys, where, row);
  keys.finish(row.model_type);
  return config;
}

std::int64_t parameter_count(const ModelConfig& config) {
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t query = config.num_attention_heads * config.head_dim;
  const std::int64_t key = config.num_key_value_heads * config.head_dim;
  const std::int64_t inner = config.intermediate_size;
  std::int64_t layer = 2 * hidden * (query + key) + 3 * hidden * inner + 2 * hidden;
  if (config.attention_bias) layer += query + 2 * key;
  if (config.attention_output_bias) layer += hidden;
  if (config.mlp_bias) layer += 2 * inner + hidden;
  if (config.qk_norm) layer += 2 * config.head_dim;
  const std::int64_t tables = config.tie_word_embeddings ? 1 : 2;
  return config.num_hidden_layers * layer + tables * config.vocab_size * hidden + hidden;
}

}  // namespace snug
