#include "io/adapter_files.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "core/settings_load.h"
#include "io/adapter_config.h"
#include "passes/name_patterns.h"

namespace snug {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kDown = ".lora_A.weight";
constexpr std::string_view kBaseLayer = ".base_layer.weight";
constexpr std::string_view kAllLinear = "all-linear";

/// layers_to_transform as an expression of whole names: the targets, in those layers.
std::string in_layers(const std::vector<std::string>& targets,
                      const std::vector<std::int64_t>& layers,
                      const std::vector<std::string>& patterns) {
  const std::string list =
      patterns.empty() ? "layers" : fmt::format("{}", fmt::join(patterns, "|"));
  return fmt::format("(.*\\.)?({})\\.({})\\.(.*\\.)?({})", list, fmt::join(layers, "|"),
                     fmt::join(targets, "|"));
}

/// One expression of whole names for what any of these matches: expressions, or ends of names.
std::string either_of(const std::vector<std::string>& modules) {
  std::vector<std::string> parts;
  for (const std::string& module : modules) {
    parts.push_back(is_expression(module) ? module : fmt::format("(.*\\.)?{}", module));
  }
  return fmt::format("({})", fmt::join(parts, "|"));
}

/// The modules that have adapters, by the last part of their names.
std::vector<std::string> target_ends(const ParameterTable& parameters) {
  std::set<std::string> ends;
  for (const Parameter& parameter : parameters) {
    if (!parameter.name.ends_with(kDown)) continue;
    const std::string module = parameter.name.substr(0, parameter.name.size() - kDown.size());
    ends.insert(module.substr(module.rfind('.') + 1));
  }
  return {ends.begin(), ends.end()};
}

/// The targets but for what `excluded` matches, as one expression of whole names.
std::string without(std::vector<std::string> targets, const std::vector<std::string>& excluded) {
  std::replace(targets.begin(), targets.end(), std::string(kAllLinear),
               std::string(R"(model\.layers\..*_proj)"));
  return fmt::format("(?!{}$){}", either_of(excluded), either_of(targets));
}

/// As PEFT means target_modules: one expression is text, names are a list.
Json targets_json(const std::vector<std::string>& targets, const ParameterTable& parameters) {
  if (std::find(targets.begin(), targets.end(), kAllLinear) != targets.end()) {
    return target_ends(parameters);
  }
  if (std::none_of(targets.begin(), targets.end(), is_expression)) return targets;
  return targets.size() == 1 ? targets.front() : either_of(targets);
}

Json pattern_json(const NamedNumbers& pattern) {
  Json json = Json::object();
  for (const auto& [key, number] : pattern) {
    if (number == static_cast<double>(static_cast<std::int64_t>(number))) {
      json[key] = static_cast<std::int64_t>(number);
    } else {
      json[key] = number;
    }
  }
  return json;
}

Json number_json(double number) { return pattern_json({{"n", number}})["n"]; }

/// A folder's name that means the same from elsewhere.
std::string base_name(const std::string& name) {
  std::error_code ignored;
  return fs::is_directory(name, ignored) ? fs::absolute(name).lexically_normal().string() : name;
}

}  // namespace

bool is_adapter_folder(const fs::path& folder) {
  std::error_code ignored;
  return fs::is_regular_file(folder / kAdapterConfig, ignored);
}

void adopt_adapter(const fs::path& folder, Settings& settings) {
  if (!is_adapter_folder(folder)) {
    user_error("'{}' holds no adapter: {} is not there.", folder.string(), kAdapterConfig);
  }
  const AdapterConfig config(folder / kAdapterConfig);
  const Settings asked = settings;
  if (asked.is_set("finetuning_type") && asked.model.finetuning != FinetuningType::lora) {
    user_error(
        "{}: finetuning_type is not lora, but '{}' is an adapter. Merge it first: snug merge.",
        asked.origin("finetuning_type").place, folder.string());
  }
  settings.model.finetuning = FinetuningType::lora;
  settings.model.adapter = folder.string();
  for (const char* key : {"finetuning_type", "adapter_name_or_path"}) {
    settings.origins.try_emplace(key, Origin{Origin::Level::file, config.where()});
  }
  apply_defaults(settings);
  auto& lora = settings.lora;
  lora = {};
  lora.rank = static_cast<std::int64_t>(config.number("r").value_or(8));
  lora.alpha = config.number("lora_alpha").value_or(8);
  lora.dropout =
      asked.is_set("lora_dropout") ? asked.lora.dropout : config.number("lora_dropout").value_or(0);
  lora.targets = config.texts("target_modules");
  const auto layers = config.numbers("layers_to_transform");
  if (!layers.empty()) {
    lora.targets = {in_layers(lora.targets, layers, config.texts("layers_pattern"))};
  }
  const auto excluded = config.expression_or_names("exclude_modules");
  if (!excluded.empty()) lora.targets = {without(lora.targets, excluded)};
  lora.modules_to_save = config.texts("modules_to_save");
  lora.rslora = config.flag("use_rslora").value_or(false);
  lora.dora = config.flag("use_dora").value_or(false);
  lora.rank_pattern = config.pattern("rank_pattern");
  lora.alpha_pattern = config.pattern("alpha_pattern");
  if (lora.rank < 1 || lora.targets.empty()) {
    user_error("{}: r or target_modules is missing.", config.where());
  }
  for (const char* key : {"lora_r", "lora_alpha", "lora_target_modules", "modules_to_save",
                          "use_rslora", "use_dora", "rank_pattern", "alpha_pattern"}) {
    const auto& print = find_setting(key).row->field.print;
    if (!asked.is_set(key) || print(asked) == print(settings)) continue;
    user_error(
        "{}: {}={}, but the adapter of '{}' has {}. Leave the key out, or start an adapter of "
        "its own.",
        asked.origin(key).place, key, print(asked), folder.string(), print(settings));
  }
  if (!settings.model.name_or_path.empty()) return;
  settings.model.name_or_path = config.text("base_model_name_or_path").value_or("");
  if (settings.model.name_or_path.empty()) {
    user_error("{}: base_model_name_or_path is missing. Give the base as model=FOLDER.",
               config.where());
  }
}

std::string adapter_config(const Settings& settings, const ParameterTable& parameters) {
  const auto& lora = settings.lora;
  const double alpha = lora.alpha.value_or(2.0 * static_cast<double>(lora.rank));
  const Json saved = lora.modules_to_save.empty() ? Json() : Json(lora.modules_to_save);
  const Json json = {{"peft_type", "LORA"},
                     {"task_type", "CAUSAL_LM"},
                     {"base_model_name_or_path", base_name(settings.model.name_or_path)},
                     {"revision", nullptr},
                     {"inference_mode", true},
                     {"r", lora.rank},
                     {"lora_alpha", number_json(alpha)},
                     {"lora_dropout", lora.dropout},
                     {"target_modules", targets_json(lora.targets, parameters)},
                     {"modules_to_save", saved},
                     {"bias", "none"},
                     {"fan_in_fan_out", false},
                     {"use_rslora", lora.rslora},
                     {"use_dora", lora.dora},
                     {"rank_pattern", pattern_json(lora.rank_pattern)},
                     {"alpha_pattern", pattern_json(lora.alpha_pattern)},
                     {"init_lora_weights", true},
                     {"layers_to_transform", nullptr},
                     {"layers_pattern", nullptr}};
  return json.dump(2);
}

std::string adapter_tensor_name(const std::string& parameter) {
  return std::string(kPrefix) + parameter;
}

bool brings_base_weight(const std::string& name, const std::vector<std::string>& saved) {
  if (name.ends_with(kBaseLayer)) return true;
  if (name != "lm_head.weight" && name != "model.embed_tokens.weight") return false;
  const std::string module = name.substr(0, name.rfind('.'));
  return std::none_of(saved.begin(), saved.end(),
                      [&](const std::string& end) { return module.ends_with(end); });
}

AdapterWeights::AdapterWeights(const fs::path& folder)
    : file_(folder / fmt::format("{}.safetensors", kAdapterStem)) {}

const TensorView& AdapterWeights::require(const Parameter& parameter) const {
  const std::string where = file_.path().string();
  const std::string name = adapter_tensor_name(parameter.name);
  const TensorView* view = file_.find(name);
  if (view == nullptr) {
    user_error("{}: '{}' is missing. The adapter belongs to another base, or {} is not its own.",
               where, name, kAdapterConfig);
  }
  const auto dims = parameter.type.shape.dims();
  if (!std::equal(dims.begin(), dims.end(), view->shape.begin(), view->shape.end())) {
    user_error(
        "{}: '{}' has shape [{}]; base and {} make it {}. The adapter has another base or rank.",
        where, name, fmt::join(view->shape, ", "), kAdapterConfig,
        parameter.type.shape.to_string());
  }
  if (!view->dtype || !is_float(*view->dtype)) {
    user_error("{}: '{}' is {}; snug reads F64, F32, BF16 and F16.", where, name, view->type_name);
  }
  return *view;
}

void AdapterWeights::check_against(const ParameterTable& parameters,
                                   const std::vector<std::string>& saved) const {
  std::set<std::string> known;
  for (const Parameter& parameter : parameters) {
    if (parameter.owner == Owner::model) continue;
    known.insert(require(parameter).name);
  }
  for (const TensorView& view : file_.tensors()) {
    if (known.contains(view.name)) continue;
    const bool prefixed = view.name.starts_with(kPrefix);
    const std::string name = view.name.substr(prefixed ? kPrefix.size() : 0);
    if (brings_base_weight(name, saved)) continue;
    user_error("{}: '{}' belongs to no module that {} names in this base.", file_.path().string(),
               view.name, kAdapterConfig);
  }
}

}  // namespace snug
