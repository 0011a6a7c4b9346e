// Writing config.json and its relatives.

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "model/config.h"
#include "model/config_families.h"

namespace snug {
namespace {

using Json = nlohmann::json;

std::string_view torch_name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "float32";
    case DType::bf16:
      return "bfloat16";
    case DType::f16:
      return "float16";
    case DType::f64:
      return "float64";
    default:
      internal_error("weights cannot be {}", name_of(dtype));
  }
}

Json rope_json(const RopeConfig& rope) {
  Json json = {{"rope_theta", rope.theta}, {"rope_type", "default"}};
  if (rope.kind == RopeConfig::Kind::plain) return json;
  json["rope_type"] = rope.kind == RopeConfig::Kind::linear ? "linear" : "llama3";
  json["factor"] = rope.factor;
  if (rope.kind == RopeConfig::Kind::linear) return json;
  json["low_freq_factor"] = rope.low_freq_factor;
  json["high_freq_factor"] = rope.high_freq_factor;
  json["original_max_position_embeddings"] = rope.original_max_position_embeddings;
  return json;
}

void add_windows(const ModelConfig& config, const FamilyRow& row, Json& json) {
  const auto& windows = config.sliding_window;
  check(static_cast<std::int64_t>(windows.size()) == config.num_hidden_layers,
        "{} windows for {} layers", windows.size(), config.num_hidden_layers);
  const std::int64_t widest = *std::max_element(windows.begin(), windows.end());
  const bool uniform =
      std::all_of(windows.begin(), windows.end(), [&](std::int64_t w) { return w == widest; });
  const Json window = widest == 0 ? Json(nullptr) : Json(widest);
  switch (row.window) {
    case WindowRule::none:
      check(widest == 0, "family {} has no sliding window", row.model_type);
      return;
    case WindowRule::every_layer:
      check(uniform, "family {} has one sliding window for all layers", row.model_type);
      json["sliding_window"] = window;
      return;
    case WindowRule::by_layer_types:
      break;
  }
  json["use_sliding_window"] = widest != 0;
  json["sliding_window"] = window;
  json["max_window_layers"] = config.num_hidden_layers;
  json["layer_types"] = Json::array();
  for (const std::int64_t w : windows) {
    check(w == 0 || w == widest, "family {} has one width of sliding window", row.model_type);
    json["layer_types"].push_back(w == 0 ? "full_attention" : "sliding_attention");
  }
}

void add_tokens(const ModelConfig& config, Json& json) {
  const auto& eos = config.eos_token_ids;
  json["bos_token_id"] = config.bos_token_id ? Json(*config.bos_token_id) : Json(nullptr);
  json["pad_token_id"] = config.pad_token_id ? Json(*config.pad_token_id) : Json(nullptr);
  json["eos_token_id"] = eos.empty() ? Json(nullptr) : eos.size() == 1 ? Json(eos[0]) : Json(eos);
}

}  // namespace

std::string write_config(const ModelConfig& config) {
  const FamilyRow& row = family_row(config.family);
  check(config.qk_norm == row.qk_norm, "family {} and qk_norm {}", row.model_type, config.qk_norm);
  check(config.attention_bias || row.bias != BiasRule::always_qkv, "{} has qkv biases",
        row.model_type);
  check(
      config.attention_output_bias == (row.bias == BiasRule::key_for_qkvo && config.attention_bias),
      "family {} cannot say its output bias", row.model_type);
  Json json = {{"architectures", {row.architecture}},
               {"model_type", row.model_type},
               {"vocab_size", config.vocab_size},
               {"hidden_size", config.hidden_size},
               {"intermediate_size", config.intermediate_size},
               {"num_hidden_layers", config.num_hidden_layers},
               {"num_attention_heads", config.num_attention_heads},
               {"num_key_value_heads", config.num_key_value_heads},
               {"head_dim", config.head_dim},
               {"max_position_embeddings", config.max_position_embeddings},
               {"rms_norm_eps", config.rms_norm_eps},
               {"rope_parameters", rope_json(config.rope)},
               {"tie_word_embeddings", config.tie_word_embeddings},
               {"initializer_range", config.initializer_range},
               {"hidden_act", "silu"},
               {"attention_dropout", 0.0},
               {"use_cache", true}};
  if (row.bias == BiasRule::key_for_qkvo) json["attention_bias"] = config.attention_bias;
  if (row.mlp_bias_key) json["mlp_bias"] = config.mlp_bias;
  if (config.dtype) json["dtype"] = torch_name(*config.dtype);
  add_windows(config, row, json);
  add_tokens(config, json);
  return json.dump(2) + "\n";
}

std::string write_generation_config(const ModelConfig& config) {
  Json json = {{"_from_model_config", true}};
  add_tokens(config, json);
  for (auto entry = json.begin(); entry != json.end();) {
    entry = entry->is_null() ? json.erase(entry) : std::next(entry);
  }
  return json.dump(2) + "\n";
}

std::string config_untied(std::string_view json, std::string_view where) {
  parse_json(json, where);  // refuses what the plain parser below would let pass
  auto object = nlohmann::ordered_json::parse(json);
  if (!object.is_object()) user_error("{}: expected a JSON object.", where);
  object["tie_word_embeddings"] = false;
  return object.dump(2) + "\n";
}

std::string config_with_dtype(std::string_view json, std::string_view where, DType dtype) {
  parse_json(json, where);  // refuses what the plain parser below would let pass
  auto object = nlohmann::ordered_json::parse(json);
  if (!object.is_object()) user_error("{}: expected a JSON object.", where);
  const bool old_spelling = object.contains("torch_dtype") && !object.contains("dtype");
  object[old_spelling ? "torch_dtype" : "dtype"] = torch_name(dtype);
  return object.dump(2) + "\n";
}

}  // namespace snug
