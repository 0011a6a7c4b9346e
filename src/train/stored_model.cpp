#include "train/stored_model.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "model/decoder.h"
#include "train/weights.h"

namespace snug {
namespace {

constexpr std::string_view kHead = "lm_head.weight";
constexpr std::string_view kTable = "model.embed_tokens.weight";
constexpr std::string_view kLayers = "model.layers.";

/// The type of the first float tensor.
std::optional<DType> stored_dtype_of(const ModelWeights& weights) {
  for (const std::string_view name : weights.names()) {
    const TensorView& view = *weights.find(name);
    if (view.dtype && is_float(*view.dtype)) return view.dtype;
  }
  return std::nullopt;
}

/// Unties the model where the files hold two tables that differ.
void untie_as_stored(const ModelWeights& weights, ModelSource& model) {
  if (!model.config.tie_word_embeddings) return;
  const TensorView* head = weights.find(kHead);
  const TensorView* table = weights.find(kTable);
  if (head == nullptr || table == nullptr) return;
  const bool same = same_values(*head, *table, DType::f32);
  weights.drop_pages(*head);
  weights.drop_pages(*table);
  if (same) return;
  model.config.tie_word_embeddings = false;
  model.config_json = config_untied(model.config_json, "config.json");
  model.notes.push_back(fmt::format(
      "{}: config.json ties {} to {}, but the files hold both with different values: they stay "
      "apart, as in transformers.",
      model.folder.string(), kHead, kTable));
}

/// A part of a weight that bitsandbytes stored, by the weight's name: NAME.weight.absmax, NAME.SCB.
bool is_quantised_part(std::string_view name, const std::set<std::string, std::less<>>& known) {
  constexpr std::string_view kWeight = ".weight";
  const std::size_t weight = name.find(".weight.");
  if (weight != name.npos) return known.contains(name.substr(0, weight + kWeight.size()));
  for (const std::string_view end : {".SCB", ".weight_format"}) {
    if (!name.ends_with(end)) continue;
    return known.contains(std::string(name.substr(0, name.size() - end.size())).append(kWeight));
  }
  return false;
}

/// Layers that tensors of these names are of: one more than the highest number.
std::int64_t layers_of(const std::vector<std::string>& names) {
  std::int64_t layers = 0;
  for (const std::string& name : names) {
    if (!name.starts_with(kLayers)) continue;
    std::int64_t layer = -1;
    std::from_chars(name.data() + kLayers.size(), name.data() + name.size(), layer);
    layers = std::max(layers, layer + 1);
  }
  return layers;
}

/// Tables of rotary frequencies, which older transformers stored: computed, and left out silently.
bool is_rotary_table(const std::string& name) {
  return name.find("rotary_emb.inv_freq") != std::string::npos;
}

void note_left_over(const ModelWeights& weights, ModelSource& model) {
  std::vector<std::string> names = left_over_tensors(model.config, weights);
  std::erase_if(names, is_rotary_table);
  if (names.empty()) return;
  const auto shown = std::min<std::ptrdiff_t>(std::ssize(names), 3);
  const std::int64_t layers = layers_of(names);
  std::string why;
  if (layers > model.config.num_hidden_layers) {
    why = fmt::format(" (the files hold {} layers, num_hidden_layers is {})", layers,
                      model.config.num_hidden_layers);
  }
  model.notes.push_back(fmt::format(
      "{}: {} stored tensors are not of the model that config.json describes and are left out{}: "
      "{}{}",
      model.folder.string(), names.size(), why,
      fmt::join(names.begin(), names.begin() + shown, ", "),
      shown < std::ssize(names) ? ", ..." : ""));
}

}  // namespace

std::set<std::string, std::less<>> tensor_names(const ModelConfig& config) {
  std::set<std::string, std::less<>> names;
  for (const Parameter& parameter : build_loss(config, {1, 1}, 1).parameters) {
    names.insert(parameter.name);
    names.insert(parameter.tied_names.begin(), parameter.tied_names.end());
  }
  return names;
}

std::vector<std::string> left_over_tensors(const ModelConfig& config, const ModelWeights& weights) {
  const auto known = tensor_names(config);
  std::vector<std::string> names;
  for (const std::string_view name : weights.names()) {
    const bool part = config.quantization && is_quantised_part(name, known);
    if (!known.contains(name) && !part) names.emplace_back(name);
  }
  return names;
}

void adopt_stored_weights(ModelSource& model) {
  if (!model.has_weights || !has_weight_files(model.folder)) return;
  const ModelWeights weights(model.folder);
  if (!model.config.dtype) model.config.dtype = stored_dtype_of(weights);
  untie_as_stored(weights, model);
  note_left_over(weights, model);
}

}  // namespace snug
