#pragma once
// The parameter table: what the model's tensors are called outside, and where they live inside.
// Loader, saver, optimizer and reports read this table and never parse value names.

#include <cstdint>
#include <string>
#include <vector>

#include "ir/type.h"

namespace snug {

/// A piece of a parameter's storage: one value.
struct StorageComponent {
  std::string component;  ///< `weight`, `master`, a state's name; packed formats add `absmax`, ...
  std::string format;     ///< `plain`: the logical elements, row-major
  std::string value;      ///< name of the run-scoped value that holds it
  TensorType type;        ///< of that value
};

/// What a parameter holds before training when it is not loaded.
enum class Initial : std::uint8_t {
  normal,
  zeros,
  ones,
  fan_in_uniform,  ///< uniform in +-1/sqrt(columns)
  row_norms        ///< the Euclidean norms of the rows of parameter `measured`
};

/// Whose a parameter is: where its first value comes from and where it is saved.
enum class Owner : std::uint8_t {
  model,   ///< in the model's folder
  copy,    ///< starts as the model's, saved with the adapter, which replaces it
  adapter  ///< beside the model's: initialised or read from an adapter's folder, saved there in F32
};

struct Parameter {
  std::string name;  ///< Hugging Face name, e.g. `model.layers.0.self_attn.q_proj.weight`
  TensorType type;   ///< logical shape and dtype
  bool trainable = true;
  bool decay = true;  ///< weight decay applies: not to biases and norms
  Initial initial = Initial::normal;
  int uses = 1;  ///< tied weights are used more than once
  int layer = -1;
  std::vector<std::string> tied_names =
      {};  ///< other names of the same tensor, e.g. `lm_head.weight`
  std::vector<StorageComponent> storage = {};
  Owner owner = Owner::model;
  bool keep_fp32 = false;     ///< stored in fp32 whatever the precision
  std::string measured = {};  ///< of Initial::row_norms
};

using ParameterTable = std::vector<Parameter>;

}  // namespace snug
