#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "core/error.h"
#include "model/shapes.h"

namespace snug {
namespace {

using Json = nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

/// A small valid config of one family, which tests then spoil.
Json small(std::string_view model_type) {
  return {{"model_type", model_type},
          {"hidden_size", 48},
          {"intermediate_size", 96},
          {"num_hidden_layers", 3},
          {"num_attention_heads", 6},
          {"num_key_value_heads", 3},
          {"head_dim", 8},
          {"vocab_size", 101},
          {"max_position_embeddings", 64},
          {"bos_token_id", 1},
          {"eos_token_id", 2}};
}

ModelConfig parse(const Json& json) { return parse_config(json.dump(), "config.json"); }

std::string text_error(const std::string& text) {
  try {
    parse_config(text, "config.json");
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

std::string error_of(const Json& json) { return text_error(json.dump()); }

/// `small(model_type)` with one key changed.
Json with(std::string_view model_type, const std::string& key, const Json& value) {
  Json json = small(model_type);
  json[key] = value;
  return json;
}

TEST(Config, ReadsAPublishedLlamaInTheOldSpelling) {
  const ModelConfig config = parse_config(R"({
    "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
    "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "hidden_act": "silu",
    "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
    "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama",
    "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
    "pretraining_tp": 1, "rms_norm_eps": 1e-05,
    "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
      "original_max_position_embeddings": 8192, "rope_type": "llama3"},
    "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
    "transformers_version": "4.43.0.dev0", "use_cache": true, "vocab_size": 128256})",
                                          "config.json");
  ModelConfig shape = shape_config("llama-3.1-8b");
  shape.eos_token_ids = {128001, 128008, 128009};
  EXPECT_EQ(config, shape);
}

TEST(Config, ReadsAPublishedSmolLm2) {
  const ModelConfig config = parse_config(R"({
    "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
    "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "silu", "hidden_size": 576,
    "initializer_range": 0.041666666666666664, "intermediate_size": 1536, "is_llama_config": true,
    "max_position_embeddings": 8192, "model_type": "llama", "num_attention_heads": 9,
    "num_hidden_layers": 30, "num_key_value_heads": 3, "pretraining_tp": 1,
    "rms_norm_eps": 1e-05, "rope_interleaved": false, "rope_scaling": null,
    "rope_theta": 100000, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
    "transformers_version": "4.40.1", "use_cache": true, "vocab_size": 49152})",
                                          "config.json");
  EXPECT_EQ(config, shape_config("smollm2-135m"));
}

TEST(Config, BothSpellingsOfRopeMeanTheSame) {
  Json old_spelling = with("llama", "rope_theta", 500000);
  old_spelling["rope_scaling"] = {{"type", "linear"}, {"factor", 2}};
  const Json new_spelling =
      with("llama", "rope_parameters",
           {{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", 500000.0}});
  EXPECT_EQ(parse(old_spelling), parse(new_spelling));
  EXPECT_EQ(parse(new_spelling).rope.kind, RopeConfig::Kind::linear);
  EXPECT_EQ(parse(new_spelling).rope.factor, 2);
  EXPECT_EQ(parse(new_spelling).rope.theta, 500000);
  // The original length of llama3 is max_position_embeddings where nothing says it.
  const ModelConfig llama3 = parse(with(
      "llama", "rope_scaling",
      {{"rope_type", "llama3"}, {"factor", 8}, {"low_freq_factor", 1}, {"high_freq_factor", 4}}));
  EXPECT_EQ(llama3.rope.original_max_position_embeddings, 64);
}

TEST(Config, FamiliesDifferAsTheTableSays) {
  const ModelConfig llama = parse(with("llama", "attention_bias", true));
  EXPECT_TRUE(llama.attention_bias && llama.attention_output_bias);
  EXPECT_FALSE(llama.mlp_bias || llama.qk_norm);
  const ModelConfig qwen2 = parse(small("qwen2"));
  EXPECT_TRUE(qwen2.attention_bias);
  EXPECT_FALSE(qwen2.attention_output_bias || qwen2.qk_norm);
  const ModelConfig qwen3 = parse(small("qwen3"));
  EXPECT_TRUE(qwen3.qk_norm);
  EXPECT_FALSE(qwen3.attention_bias || qwen3.attention_output_bias);
  EXPECT_TRUE(parse(with("llama", "mlp_bias", true)).mlp_bias);
}

TEST(Config, SlidingWindowsFollowTheFamily) {
  using Windows = std::vector<std::int64_t>;
  EXPECT_EQ(parse(small("llama")).sliding_window, (Windows{0, 0, 0}));
  EXPECT_EQ(parse(small("mistral")).sliding_window, (Windows{4096, 4096, 4096}));
  EXPECT_EQ(parse(with("mistral", "sliding_window", nullptr)).sliding_window, (Windows{0, 0, 0}));
  EXPECT_EQ(parse(small("qwen2")).sliding_window, (Windows{0, 0, 0}));
  Json qwen = with("qwen3", "use_sliding_window", true);
  qwen["sliding_window"] = 16;
  qwen["max_window_layers"] = 1;
  EXPECT_EQ(parse(qwen).sliding_window, (Windows{0, 16, 16}));
  qwen["layer_types"] = {"sliding_attention", "full_attention", "sliding_attention"};
  EXPECT_EQ(parse(qwen).sliding_window, (Windows{16, 0, 16}));
  qwen["use_sliding_window"] = false;
  EXPECT_THAT(error_of(qwen), HasSubstr("no sliding_window is in use"));
}

TEST(Config, WritingReadsBackEqual) {
  for (const std::string_view name : shape_names()) {
    const ModelConfig config = shape_config(name);
    EXPECT_EQ(parse_config(write_config(config), "config.json"), config) << name;
  }
  Json qwen = with("qwen3", "use_sliding_window", true);
  qwen["layer_types"] = {"sliding_attention", "full_attention", "sliding_attention"};
  qwen["eos_token_id"] = {2, 5};
  qwen["pad_token_id"] = 0;
  qwen["attention_bias"] = true;
  EXPECT_EQ(parse_config(write_config(parse(qwen)), "config.json"), parse(qwen));
  Json linear = with("llama", "rope_scaling", {{"type", "linear"}, {"factor", 2.5}});
  linear["mlp_bias"] = true;
  EXPECT_EQ(parse_config(write_config(parse(linear)), "config.json"), parse(linear));
}

TEST(Config, ReplacingTheDtypeKeepsTheRest) {
  const std::string text = R"({"z": 1, "torch_dtype": "float32", "a": [1.5, null]})";
  EXPECT_EQ(Json::parse(config_with_dtype(text, "config.json", DType::bf16)),
            Json::parse(R"({"z": 1, "torch_dtype": "bfloat16", "a": [1.5, null]})"));
  EXPECT_EQ(Json::parse(config_with_dtype("{}", "config.json", DType::f16)),
            Json::parse(R"({"dtype": "float16"})"));
}

TEST(Config, WhatChangesTheArithmeticIsRefusedByName) {
  EXPECT_THAT(error_of(with("llama", "attention_dropout", 0.1)),
              HasSubstr("config.json: 'attention_dropout' is 0.1"));
  EXPECT_THAT(error_of(with("llama", "hidden_act", "gelu")), HasSubstr("'hidden_act' is \"gelu\""));
  EXPECT_THAT(error_of(with("qwen2", "attention_bias", true)), HasSubstr("'attention_bias'"));
  EXPECT_THAT(error_of(with("llama", "sliding_window", 512)), HasSubstr("'sliding_window' is 512"));
  EXPECT_THAT(error_of(with("llama", "logit_scale", 2)), HasSubstr("'logit_scale' is not known"));
  EXPECT_THAT(error_of(with("llama", "intermediate_sise", 2)),
              HasSubstr("Did you mean intermediate_size?"));
  EXPECT_THAT(error_of(with("llama", "quantization_config", {{"quant_method", "gptq"}})),
              HasSubstr("'quantization_config.quant_method' is 'gptq'"));
  EXPECT_THAT(error_of(with("llama", "rope_scaling", {{"rope_type", "yarn"}, {"factor", 4}})),
              AllOf(HasSubstr("'rope_scaling.rope_type' is 'yarn'"), HasSubstr("linear")));
  EXPECT_THAT(error_of(with("llama", "rope_scaling",
                            {{"type", "linear"}, {"factor", 4}, {"beta_fast", 32}})),
              HasSubstr("'rope_scaling.beta_fast' is not known"));
  EXPECT_THAT(error_of(with("llama", "partial_rotary_factor", 0.5)),
              HasSubstr("'partial_rotary_factor'"));
  EXPECT_THAT(error_of(with("llama", "architectures", {"LlamaForSequenceClassification"})),
              HasSubstr("LlamaForSequenceClassification"));
  EXPECT_THAT(error_of(small("gemma2")), AllOf(HasSubstr("'gemma2'"), HasSubstr("qwen3")));
  EXPECT_THAT(error_of(with("qwen3", "layer_types",
                            {"full_attention", "linear_attention", "full_attention"})),
              HasSubstr("linear_attention"));
  EXPECT_THAT(error_of(with("llama", "dtype", "float8_e4m3fn")), HasSubstr("'float8_e4m3fn'"));
}

TEST(Config, ContradictionsAreRefused) {
  EXPECT_THAT(error_of(with("llama", "num_key_value_heads", 4)),
              HasSubstr("'num_key_value_heads' is 4, which does not divide num_attention_heads 6"));
  Json json = small("mistral");
  json.erase("head_dim");
  json["hidden_size"] = 50;
  EXPECT_THAT(error_of(json), HasSubstr("'hidden_size' is 50"));
  EXPECT_THAT(error_of(with("llama", "head_dim", 7)), HasSubstr("even"));
  EXPECT_THAT(error_of(with("llama", "hidden_size", -48)), HasSubstr("is -48"));
  EXPECT_THAT(error_of(with("llama", "hidden_size", 1e300)), HasSubstr("expected an integer"));
  EXPECT_THAT(error_of(with("llama", "vocab_size", 18446744073709551615ULL)), HasSubstr("limit"));
  EXPECT_THAT(error_of(with("llama", "vocab_size", nullptr)), HasSubstr("expected an integer"));
  EXPECT_THAT(error_of(with("qwen2", "layer_types", {"full_attention"})),
              HasSubstr("has 1 entries, num_hidden_layers is 3"));
  EXPECT_THAT(error_of(with("llama", "eos_token_id", 101)), HasSubstr("below vocab_size 101"));
  EXPECT_THAT(error_of(with("llama", "rms_norm_eps", 0)), HasSubstr("above 0"));
  json = with("llama", "rope_theta", 1000);
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 10000}};
  EXPECT_THAT(error_of(json), AllOf(HasSubstr("'rope_theta'"), HasSubstr("Keep one")));
  EXPECT_THAT(error_of(with("llama", "tie_word_embeddings", "yes")), HasSubstr("true or false"));
}

TEST(Config, DamagedFilesAreUserErrors) {
  EXPECT_THAT(text_error(""), HasSubstr("config.json: not valid JSON"));
  EXPECT_THAT(text_error("[1]"), HasSubstr("expected a JSON object"));
  EXPECT_THAT(text_error("{}"), HasSubstr("'model_type' is missing"));
  EXPECT_THAT(text_error(R"({"model_type":"llama","hidden_size":8,"hidden_size":16})"),
              HasSubstr("'hidden_size' occurs twice"));
  EXPECT_THAT(text_error(std::string(100000, '[')), HasSubstr("nested deeper"));
  EXPECT_THAT(text_error(std::string(R"({"model_type": "lla)") + "\xff" + "ma\"}"),
              HasSubstr("not valid JSON"));
}

TEST(Config, NoByteFlipCrashes) {
  const std::string text = write_config(shape_config("qwen3-0.6b"));
  std::mt19937_64 random(1);
  for (int i = 0; i < 3000; ++i) {
    std::string damaged = text;
    for (int flips = 0; flips < 3; ++flips) {
      damaged[random() % damaged.size()] = static_cast<char>(random());
    }
    try {
      parameter_count(parse_config(damaged, "config.json"));
    } catch (const UserError&) {
      continue;
    }
  }
}

TEST(Shapes, HaveThePublishedNumberOfParameters) {
  const std::vector<std::pair<std::string_view, std::int64_t>> published = {
      {"llama-3.1-8b", 8'030'261'248},     {"llama-3.2-1b", 1'235'814'400},
      {"llama-3.2-3b", 3'212'749'824},     {"llama-3-8b", 8'030'261'248},
      {"llama-3-70b", 70'553'706'496},     {"llama-2-7b", 6'738'415'616},
      {"llama-3.1-405b", 405'853'388'800}, {"qwen2.5-0.5b", 494'032'768},
      {"qwen2.5-1.5b", 1'543'714'304},     {"qwen2.5-3b", 3'085'938'688},
      {"qwen2.5-7b", 7'615'616'512},       {"qwen2.5-14b", 14'770'033'664},
      {"qwen3-0.6b", 596'049'920},         {"qwen3-1.7b", 1'720'574'976},
      {"qwen3-4b", 4'022'468'096},         {"qwen3-8b", 8'190'735'360},
      {"smollm2-135m", 134'515'008},       {"smollm2-360m", 361'821'120},
      {"smollm2-1.7b", 1'711'376'384},     {"tinyllama-1.1b", 1'100'048'384},
      {"mistral-7b-v0.1", 7'241'732'096},  {"mistral-7b-v0.3", 7'248'023'552},
      {"smol135m", 134'515'008},           {"tinyllama1.1b", 1'100'048'384}};
  for (const auto& [name, count] : published) {
    EXPECT_EQ(parameter_count(shape_config(name)), count) << name;
  }
}

TEST(Shapes, AnUnknownNameGetsTheNearest) {
  try {
    shape_config("llama-3.1-8");
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("Did you mean llama-3.1-8b?"),
                                    HasSubstr("smollm2-135m"), HasSubstr("tiny,")));
  }
}

TEST(ConfigQuantization, SaysHowBitsandbytesStored) {
  const auto stored = [](const nlohmann::json& object) {
    return parse(with("llama", "quantization_config", object)).quantization;
  };
  const nlohmann::json four = {
      {"quant_method", "bitsandbytes"},       {"load_in_4bit", true},
      {"bnb_4bit_quant_type", "nf4"},         {"bnb_4bit_use_double_quant", true},
      {"bnb_4bit_compute_dtype", "bfloat16"}, {"llm_int8_skip_modules", {"lm_head", "q_proj"}}};
  EXPECT_EQ(stored(four), (StoredQuantization{PackedFormat::nf4, true, {"lm_head", "q_proj"}}));
  EXPECT_EQ(stored({{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}}),
            (StoredQuantization{PackedFormat::fp4, false, {}}));
  EXPECT_EQ(stored({{"quant_method", "bitsandbytes"}, {"load_in_8bit", true}}),
            (StoredQuantization{PackedFormat::int8, false, {}}));
  EXPECT_EQ(stored(nullptr), std::nullopt);
}

TEST(ConfigQuantization, RefusesWhatItCannotRead) {
  const auto error = [](const nlohmann::json& object) {
    return error_of(with("llama", "quantization_config", object));
  };
  EXPECT_THAT(error({{"quant_method", "bitsandbytes"}}), HasSubstr("expected one of them"));
  EXPECT_THAT(error({{"quant_method", "bitsandbytes"},
                     {"load_in_4bit", true},
                     {"bnb_4bit_quant_type", "int3"}}),
              HasSubstr("'quantization_config.bnb_4bit_quant_type' is 'int3'"));
  EXPECT_THAT(
      error(
          {{"quant_method", "bitsandbytes"}, {"load_in_8bit", true}, {"llm_int8_skip_modules", 3}}),
      HasSubstr("expected a list of names"));
  EXPECT_THAT(error("4bit"), HasSubstr("expected an object"));
}

}  // namespace
}  // namespace snug
