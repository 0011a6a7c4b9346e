#pragma once
// PEFT's LoRA folders: adapter_config.json and adapter_model.safetensors.

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/settings.h"
#include "io/safetensors.h"
#include "ir/parameters.h"

namespace snug {

inline constexpr std::string_view kAdapterConfig = "adapter_config.json";
inline constexpr std::string_view kAdapterStem = "adapter_model";  ///< of the weights' file

/// Whether the folder holds an adapter.
bool is_adapter_folder(const std::filesystem::path& folder);

/// Takes rank, alpha, targets and the rest of `settings.lora` from the folder's config, the base
/// from it where `settings` name no model, and makes the run one of adapters. UserError for another
/// kind of adapter, features that snug does not have, and keys that the user set to something else.
void adopt_adapter(const std::filesystem::path& folder, Settings& settings);

/// adapter_config.json of a run's adapter. `all-linear` is written out by the table's modules.
std::string adapter_config(const Settings& settings, const ParameterTable& parameters);

/// A parameter's name in adapter_model.safetensors.
std::string adapter_tensor_name(const std::string& parameter);

/// Whether the tensor of this name (without PEFT's prefix) is a weight of the base that PEFT saved
/// with the adapter: `lm_head.base_layer.weight` of a targeted module, or an embedding's or the
/// head's that is not among `saved`, the modules_to_save.
bool brings_base_weight(const std::string& name, const std::vector<std::string>& saved);

/// The folder's tensors, mapped.
class AdapterWeights {
 public:
  explicit AdapterWeights(const std::filesystem::path& folder);

  /// The tensor of a parameter that the adapter owns. UserError when it is missing or of another
  /// shape or type.
  const TensorView& require(const Parameter& parameter) const;
  /// UserError unless the file holds the table's adapter: all of it and nothing else but weights of
  /// the base.
  void check_against(const ParameterTable& parameters, const std::vector<std::string>& saved) const;
  const SafetensorsFile& file() const { return file_; }

 private:
  SafetensorsFile file_;
};

}  // namespace snug
