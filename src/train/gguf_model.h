#pragma once
// A model as llama.cpp wants it in a GGUF file: names, types, order of rows, metadata.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/gguf.h"
#include "io/model_files.h"
#include "ir/parameters.h"
#include "train/run_setup.h"

namespace snug {

/// A tensor of the file and where its elements come from.
struct GgufSource {
  GgufTensor tensor;
  const TensorView* view = nullptr;  ///< null: `values` are the elements
  std::int64_t heads = 0;            ///< above 0: rows are dealt out as stream_tensor says
  std::vector<float> values = {};
};

struct GgufModel {
  GgmlType type = GgmlType::f16;  ///< of the matrices
  GgufMetadata metadata;
  std::vector<GgufSource> sources;  ///< in the order of the file
  std::vector<std::string> notes;   ///< where llama.cpp will differ from transformers
};

/// `type` is that of the matrices, none: as the embedding is stored. Norms and biases are fp32;
/// with q8_0, matrices whose rows are no whole blocks are fp16. UserError for what llama.cpp cannot
/// represent. The views are those of `weights`.
GgufModel make_gguf_model(const ModelSource& model, const ModelWeights& weights,
                          const ParameterTable& parameters, std::optional<GgmlType> type);

}  // namespace snug
