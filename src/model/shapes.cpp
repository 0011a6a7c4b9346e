#include "model/shapes.h"

#include <fmt/ranges.h>

#include <array>

#include "core/error.h"
#include "core/text.h"
#include "model/config_families.h"

namespace snug {
namespace {

/// What most shapes leave at its default.
struct Rest {
  std::int64_t head_dim = 0;  ///< 0: hidden / heads
  double eps = 1e-5;
  double llama3_factor = 0;  ///< 0: plain rope
  std::int64_t window = 0;   ///< of every layer
  double initializer_range = 0.02;
  DType dtype = DType::bf16;
};

/// One published config.json, with its family's rules left out.
struct Shape {
  std::string_view name;
  Family family;
  std::int64_t vocab;
  std::int64_t hidden;
  std::int64_t inner;
  std::int64_t layers;
  std::int64_t heads;
  std::int64_t kv_heads;
  std::int64_t positions;
  double theta;
  bool tied;
  std::int64_t bos;
  std::int64_t eos;
  Rest rest = {};
};

constexpr Family kLlama = Family::llama;
constexpr Family kMistral = Family::mistral;
constexpr Family kQwen2 = Family::qwen2;
constexpr Family kQwen3 = Family::qwen3;

// clang-format off: one row a model, columns in the order of Shape
constexpr auto kShapes = std::to_array<Shape>({
    {"llama-3.1-8b", kLlama, 128256, 4096, 14336, 32, 32, 8, 131072, 5e5, false, 128000, 128001,
     {.llama3_factor = 8}},
    {"llama-3.1-405b", kLlama, 128256, 16384, 53248, 126, 128, 8, 131072, 5e5, false, 128000, 128001,
     {.llama3_factor = 8}},
    {"llama-3.2-1b", kLlama, 128256, 2048, 8192, 16, 32, 8, 131072, 5e5, true, 128000, 128001,
     {.llama3_factor = 32}},
    {"llama-3.2-3b", kLlama, 128256, 3072, 8192, 28, 24, 8, 131072, 5e5, true, 128000, 128001,
     {.llama3_factor = 32}},
    {"llama-3-8b", kLlama, 128256, 4096, 14336, 32, 32, 8, 8192, 5e5, false, 128000, 128001},
    {"llama-3-70b", kLlama, 128256, 8192, 28672, 80, 64, 8, 8192, 5e5, false, 128000, 128001},
    {"llama-2-7b", kLlama, 32000, 4096, 11008, 32, 32, 32, 4096, 1e4, false, 1, 2,
     {.dtype = DType::f16}},
    {"qwen2.5-0.5b", kQwen2, 151936, 896, 4864, 24, 14, 2, 32768, 1e6, true, 151643, 151643,
     {.eps = 1e-6}},
    {"qwen2.5-1.5b", kQwen2, 151936, 1536, 8960, 28, 12, 2, 131072, 1e6, true, 151643, 151643,
     {.eps = 1e-6}},
    {"qwen2.5-3b", kQwen2, 151936, 2048, 11008, 36, 16, 2, 32768, 1e6, true, 151643, 151643,
     {.eps = 1e-6}},
    {"qwen2.5-7b", kQwen2, 152064, 3584, 18944, 28, 28, 4, 131072, 1e6, false, 151643, 151643,
     {.eps = 1e-6}},
    {"qwen2.5-14b", kQwen2, 152064, 5120, 13824, 48, 40, 8, 131072, 1e6, false, 151643, 151643},
    {"qwen3-0.6b", kQwen3, 151936, 1024, 3072, 28, 16, 8, 40960, 1e6, true, 151643, 151645,
     {.head_dim = 128, .eps = 1e-6}},
    {"qwen3-1.7b", kQwen3, 151936, 2048, 6144, 28, 16, 8, 40960, 1e6, true, 151643, 151645,
     {.head_dim = 128, .eps = 1e-6}},
    {"qwen3-4b", kQwen3, 151936, 2560, 9728, 36, 32, 8, 40960, 1e6, true, 151643, 151645,
     {.head_dim = 128, .eps = 1e-6}},
    {"qwen3-8b", kQwen3, 151936, 4096, 12288, 36, 32, 8, 40960, 1e6, false, 151643, 151645,
     {.head_dim = 128, .eps = 1e-6}},
    {"smollm2-135m", kLlama, 49152, 576, 1536, 30, 9, 3, 8192, 1e5, true, 0, 0,
     {.initializer_range = 1.0 / 24}},
    {"smollm2-360m", kLlama, 49152, 960, 2560, 32, 15, 5, 8192, 1e5, true, 0, 0},
    {"smollm2-1.7b", kLlama, 49152, 2048, 8192, 24, 32, 32, 8192, 1.3e5, true, 0, 0},
    {"tinyllama-1.1b", kLlama, 32000, 2048, 5632, 22, 32, 4, 2048, 1e4, false, 1, 2},
    {"mistral-7b-v0.1", kMistral, 32000, 4096, 14336, 32, 32, 8, 32768, 1e4, false, 1, 2,
     {.window = 4096}},
    {"mistral-7b-v0.3", kMistral, 32768, 4096, 14336, 32, 32, 8, 32768, 1e6, false, 1, 2},
    // The benchmark's shapes: Llama layers of these sizes, as its peer script builds them.
    {"tiny", kLlama, 4096, 256, 688, 4, 4, 2, 2048, 1e4, true, 1, 2},
    {"smol135m", kLlama, 49152, 576, 1536, 30, 9, 3, 2048, 1e4, true, 1, 2},
    {"qwen0.5b", kLlama, 151936, 896, 4864, 24, 14, 2, 2048, 1e4, true, 1, 2},
    {"tinyllama1.1b", kLlama, 32000, 2048, 5632, 22, 32, 4, 2048, 1e4, false, 1, 2},
});
// clang-format on

ModelConfig config_of(const Shape& shape) {
  const FamilyRow& row = family_row(shape.family);
  ModelConfig config;
  config.family = shape.family;
  config.vocab_size = shape.vocab;
  config.hidden_size = shape.hidden;
  config.intermediate_size = shape.inner;
  config.num_hidden_layers = shape.layers;
  config.num_attention_heads = shape.heads;
  config.num_key_value_heads = shape.kv_heads;
  config.head_dim = shape.rest.head_dim == 0 ? shape.hidden / shape.heads : shape.rest.head_dim;
  config.max_position_embeddings = shape.positions;
  config.rms_norm_eps = shape.rest.eps;
  config.rope.theta = shape.theta;
  if (shape.rest.llama3_factor != 0) {
    config.rope = {.kind = RopeConfig::Kind::llama3,
                   .theta = shape.theta,
                   .factor = shape.rest.llama3_factor,
                   .low_freq_factor = 1,
                   .high_freq_factor = 4,
                   .original_max_position_embeddings = 8192};
  }
  config.attention_bias = row.bias == BiasRule::always_qkv;
  config.qk_norm = row.qk_norm;
  config.tie_word_embeddings = shape.tied;
  config.sliding_window.assign(static_cast<std::size_t>(shape.layers), shape.rest.window);
  config.bos_token_id = shape.bos;
  config.eos_token_ids = {shape.eos};
  config.dtype = shape.rest.dtype;
  config.initializer_range = shape.rest.initializer_range;
  return config;
}

}  // namespace

std::vector<std::string_view> shape_names() {
  std::vector<std::string_view> names;
  names.reserve(kShapes.size());
  for (const Shape& shape : kShapes) names.push_back(shape.name);
  return names;
}

ModelConfig shape_config(std::string_view name) {
  for (const Shape& shape : kShapes) {
    if (shape.name == name) return config_of(shape);
  }
  const auto names = shape_names();
  const auto near = nearest(name, names);
  user_error("no shape is called '{}'.{} Known: {}.", name,
             near ? fmt::format(" Did you mean {}?", *near) : "", fmt::join(names, ", "));
}

}  // namespace snug
