#include "model/decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "ir/text.h"
#include "ir/verify.h"
#include "model/shapes.h"

namespace snug {
namespace {

ModelConfig tiny() {
  ModelConfig config;
  config.vocab_size = 50;
  config.hidden_size = 24;
  config.intermediate_size = 40;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 6;
  config.num_key_value_heads = 3;
  config.head_dim = 8;  // not hidden_size / heads
  config.max_position_embeddings = 64;
  config.rms_norm_eps = 1e-6;
  return config;
}

TEST(Decoder, LossGraphIsLegalAndKeepsItsParameterTable) {
  ModelConfig config = tiny();
  config.attention_bias = true;
  config.qk_norm = true;
  config.tie_word_embeddings = true;
  const Graph graph = build_loss(config, {.rows = 2, .length = 7}, 64);
  verify_graph(graph);
  EXPECT_EQ(print_graph(parse_graph(print_graph(graph))), print_graph(graph));
  // Embedding, final norm; a layer: 2 norms, 4 attention matrices and 3 biases, 2 head norms, 3
  // MLP.
  EXPECT_EQ(graph.parameters.size(), 2U + 2U * 14U);
  EXPECT_EQ(graph.parameters.front().uses, 2);
  EXPECT_THAT(graph.parameters.front().tied_names, testing::ElementsAre("lm_head.weight"));
  for (const Parameter& parameter : graph.parameters) {
    const bool matrix = parameter.type.shape.rank() == 2;
    EXPECT_EQ(parameter.decay, matrix) << parameter.name;
  }
}

TEST(Decoder, ParametersAreThoseOfThePublishedShapes) {
  for (const char* name : {"llama-3.1-8b", "qwen2.5-0.5b", "smollm2-135m", "mistral-7b-v0.1"}) {
    const ModelConfig config = shape_config(name);
    const Graph graph = build_loss(config, {.rows = 1, .length = 16}, 16);
    std::int64_t elements = 0;
    for (const Parameter& parameter : graph.parameters) {
      elements += parameter.type.shape.elements();
    }
    EXPECT_EQ(elements, parameter_count(config)) << name;
  }
}

TEST(Decoder, GenerationKeepsItsCache) {
  const Graph graph =
      build_generation(tiny(), {.tokens = 5, .cache_rows = 32, .logit_rows = 1}, 32);
  verify_graph(graph);
  const ValueId cache = graph.find("cache/1/key");
  ASSERT_TRUE(exists(cache));
  EXPECT_EQ(graph.value(cache).scope, Scope::session);
  EXPECT_EQ(graph.value(graph.find("metric/logits")).type.to_string(), "f32[1, 50]");
}

}  // namespace
}  // namespace snug
