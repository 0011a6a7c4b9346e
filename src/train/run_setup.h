#pragma once
// From settings to a model and data: what `train`, `eval` and `plan` begin with.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/settings.h"
#include "data/dataset.h"
#include "model/config.h"
#include "plan/recipe.h"

namespace snug {

/// A model by its configuration, and where its files are.
struct ModelSource {
  ModelConfig config;
  std::filesystem::path folder;        ///< empty for `shape:NAME`
  std::filesystem::path adapter;       ///< a PEFT folder to load on top; empty: none
  std::string name;                    ///< the folder's or shape's last name, for run names
  bool has_weights = false;            ///< weights are to be read from `folder`
  std::string config_json;             ///< to be written beside trained weights
  std::string generation_config_json;  ///< empty: copied from the folder where it has one
  std::vector<std::string> notes;      ///< what its files are other than config.json says, to say
  std::string chat_template;  ///< to be written beside the weights; empty: the folder's own
};

/// The settings a run, an evaluation or a generation goes by: where model_name_or_path or
/// adapter_name_or_path is a PEFT folder, with its base and its adapter's settings.
Settings with_adapter(Settings settings);

/// Resolves model_name_or_path: a folder, a hub id in the local cache, `shape:NAME`. Where weights
/// are to be read, the config is what they make of it (train/stored_model.h). UserError for what is
/// not on this machine or not a model.
ModelSource open_model(const ModelSettings& settings);

/// The stored type of trained weights: config.json says it, as transformers would read it back.
void set_stored_dtype(ModelSource& model, DType dtype);

/// To compute in the type the folder's weights have, as config.json says it, unless bf16 or fp16 is
/// set.
void adopt_stored_dtype(Settings& settings, const ModelSource& model);

/// Where the folder holds quantised weights, they are used as stored: sets `quantization`.
/// UserError when it was set to something else.
void adopt_quantization(Settings& settings, const ModelSource& model);

/// Tokenised rows.
struct DataSource {
  std::optional<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat;  ///< null where the model has none and none is named
  std::string named_template;  ///< the text that chat_template names; empty: the folder's own
  TokenRules rules;
  Dataset train;
  Dataset eval;      ///< empty when there is nothing to evaluate
  std::string name;  ///< for run names
  std::int64_t max_length = 0;
  /// Valid as long as this is.
  RowEncoder encoder() const { return {tokenizer ? &*tokenizer : nullptr, chat.get(), rules}; }
};

/// The tokenizer, template and rules that rows are read by; no rows yet.
DataSource open_encoder(const Settings& settings, const ModelSource& model);

/// Reads and tokenises train_file and eval_file (or val_size random rows of train_file).
/// Without train_file: no rows, max_length alone.
DataSource open_data(const Settings& settings, const ModelSource& model);

/// The same without the tokenizer, whose memory is given back with all that reading took.
DataSource open_rows(const Settings& settings, const ModelSource& model);

/// The rules rows are tokenised by, but for the tokens that begin and end them.
TokenRules token_rules(const Settings& settings, const ModelConfig& config);

/// What the process may take; of a card's memory where the target has a card.
struct ProcessMemory {
  std::int64_t budget = 0;
  std::string from;  ///< what says so, with figures where it is what is free now
};
ProcessMemory process_memory(const DeviceSettings& settings, const Target& target);

/// Bytes of this process: anonymous and resident now; all resident at most.
std::int64_t anonymous_bytes();
std::int64_t peak_resident_bytes();

}  // namespace snug
