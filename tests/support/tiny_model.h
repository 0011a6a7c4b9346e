#pragma once
// A model folder and rows small enough to train in milliseconds.

#include <array>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "core/settings_load.h"
#include "core/thread_pool.h"
#include "io/atomic_folder.h"
#include "io/model_writer.h"
#include "model/shapes.h"
#include "passes/pipeline.h"
#include "train/weights.h"

namespace snug::testing {

/// Three layers of grouped-query attention. Matrices are of 4,096 elements and more, so that
/// formats in blocks apply to them.
inline ModelConfig tiny_config() {
  ModelConfig config = shape_config("tiny");
  config.num_hidden_layers = 3;
  config.sliding_window.resize(3);
  config.hidden_size = 64;
  config.intermediate_size = 128;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 16;
  config.vocab_size = 97;
  config.max_position_embeddings = 128;
  return config;
}

/// Writes config.json and model.safetensors (f32) with random weights. Large ones, so that a few
/// steps change the loss.
inline void write_tiny_model(const std::filesystem::path& folder, double deviation = 0.1) {
  make_folders(folder);
  const ModelConfig config = tiny_config();
  const Settings settings =
      make_settings(std::vector<Assignment>{from_command_line("bf16", "false")});
  const ParameterTable parameters =
      compile_generation(config, {.tokens = 1, .cache_rows = 1}, settings).parameters;
  std::map<std::string, std::vector<std::byte>, std::less<>> weights;
  ThreadPool pool(1);
  for (const Parameter& parameter : parameters) {
    weights[parameter.name].resize(static_cast<std::size_t>(parameter.type.bytes()));
  }
  const auto bytes = [&](std::string_view name) { return std::span(weights.find(name)->second); };
  initialise_weights(parameters, std::array{Owner::model}, deviation, 7, bytes, pool);
  const SavedWeights saved(parameters);
  ModelFolderWriter(saved.specs(), {{"config.json", write_config(config)}}, {})
      .write(folder, [&](const TensorSpec& tensor, ModelFolderWriter::Sink sink) {
        saved.write(tensor, bytes, sink);
      });
}

/// Writes `count` rows of unequal lengths whose next token follows from the last one.
inline void write_tiny_rows(const std::filesystem::path& file, int count) {
  std::ofstream out(file);
  for (int row = 0; row < count; ++row) {
    const int length = 9 + row * 7 % 24;
    std::string ids;
    std::string labels;
    for (int t = 0, token = row * 13 % 97; t < length; ++t, token = (token * 5 + 3) % 97) {
      ids += fmt::format("{}{}", t == 0 ? "" : ",", token);
      labels += fmt::format("{}{}", t == 0 ? "" : ",", t < 3 ? -100 : token);
    }
    out << fmt::format("{{\"input_ids\":[{}],\"labels\":[{}]}}\n", ids, labels);
  }
}

}  // namespace snug::testing
