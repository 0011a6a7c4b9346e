#include "io/adapter_files.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "core/json.h"
#include "core/settings_load.h"
#include "io/file.h"

namespace snug {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kDown = ".lora_A.weight";
constexpr std::string_view kAllLinear = "all-linear";

/// Keys of features that snug has not; their values here ask for nothing.
constexpr auto kUnsupported = std::to_array<std::string_view>(
    {"fan_in_fan_out", "lora_bias", "use_qalora", "use_bdlora", "exclude_modules",
     "layer_replication", "target_parameters", "trainable_token_indices", "arrow_config",
     "alora_invocation_tokens", "megatron_config", "monteclora_config", "kasa_config"});

bool asks_nothing(const Json& value) {
  return value.is_null() || value == false || (value.is_structured() && value.empty());
}

/// What becomes of the JSON's values, with the file's name in every error.
class ConfigReader {
 public:
  explicit ConfigReader(const fs::path& folder)
      : where_((folder / kAdapterConfig).string()), json_(parse_json(read_text(where_), where_)) {
    if (!json_.is_object()) user_error("{}: not an object.", where_);
    if (text("peft_type").value_or("") != "LORA") {
      user_error("{}: peft_type is {}; snug reads LORA.", where_,
                 json_.value("peft_type", Json()).dump());
    }
    for (const std::string_view key : kUnsupported) {
      const auto found = json_.find(key);
      if (found != json_.end() && !asks_nothing(*found)) {
        user_error("{}: {} is {}, which is not in this version.", where_, key, found->dump());
      }
    }
    if (text("bias").value_or("none") != "none") {
      user_error("{}: bias is '{}'; snug reads adapters with bias 'none'.", where_, *text("bias"));
    }
  }

  const std::string& where() const { return where_; }

  std::optional<std::string> text(std::string_view key) const {
    return value<std::string>(key, &Json::is_string, "text");
  }
  std::optional<double> number(std::string_view key) const {
    return value<double>(key, &Json::is_number, "a number");
  }
  std::optional<bool> flag(std::string_view key) const {
    return value<bool>(key, &Json::is_boolean, "true or false");
  }

  std::vector<std::string> texts(std::string_view key) const {
    return list<std::string>(key, &Json::is_string, "a list of names");
  }
  std::vector<std::int64_t> numbers(std::string_view key) const {
    return list<std::int64_t>(key, &Json::is_number_integer, "a list of numbers");
  }

  NamedNumbers pattern(std::string_view key) const {
    NamedNumbers result;
    const auto found = json_.find(key);
    if (found == json_.end() || found->is_null()) return result;
    if (!found->is_object()) wrong(key, *found, "a map of numbers");
    for (const auto& [name, item] : found->items()) {
      if (!item.is_number()) wrong(key, *found, "a map of numbers");
      result.emplace_back(name, item.get<double>());
    }
    return result;
  }

 private:
  template <class T>
  std::optional<T> value(std::string_view key, bool (Json::*is)() const noexcept,
                         std::string_view expected) const {
    const auto found = json_.find(key);
    if (found == json_.end() || found->is_null()) return std::nullopt;
    if (!((*found).*is)()) wrong(key, *found, expected);
    return found->get<T>();
  }

  /// One element alone counts as a list of it.
  template <class T>
  std::vector<T> list(std::string_view key, bool (Json::*is)() const noexcept,
                      std::string_view expected) const {
    const auto found = json_.find(key);
    if (found == json_.end() || found->is_null()) return {};
    if (((*found).*is)()) return {found->get<T>()};
    if (!found->is_array()) wrong(key, *found, expected);
    std::vector<T> result;
    for (const Json& item : *found) {
      if (!(item.*is)()) wrong(key, *found, expected);
      result.push_back(item.get<T>());
    }
    return result;
  }

  [[noreturn]] void wrong(std::string_view key, const Json& found,
                          std::string_view expected) const {
    user_error("{}: {} is {}, expected {}.", where_, key, found.dump(), expected);
  }

  std::string where_;
  Json json_;
};

/// layers_to_transform as an expression of whole names: the targets, in those layers.
std::string in_layers(const std::vector<std::string>& targets,
                      const std::vector<std::int64_t>& layers,
                      const std::vector<std::string>& patterns) {
  const std::string list =
      patterns.empty() ? "layers" : fmt::format("{}", fmt::join(patterns, "|"));
  return fmt::format("(.*\\.)?({})\\.({})\\.(.*\\.)?({})", list, fmt::join(layers, "|"),
                     fmt::join(targets, "|"));
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

bool is_expression(const std::string& text) {
  return text.find_first_of("*+?()[]{}|^$\\") != std::string::npos;
}

/// As PEFT means target_modules: one expression is text, names are a list.
Json targets_json(const std::vector<std::string>& targets, const ParameterTable& parameters) {
  if (std::find(targets.begin(), targets.end(), kAllLinear) != targets.end()) {
    return target_ends(parameters);
  }
  if (std::none_of(targets.begin(), targets.end(), is_expression)) return targets;
  if (targets.size() == 1) return targets.front();
  std::vector<std::string> parts;
  for (const std::string& target : targets) {
    parts.push_back(is_expression(target) ? target : fmt::format("(.*\\.)?{}", target));
  }
  return fmt::format("({})", fmt::join(parts, "|"));
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
  const ConfigReader config(folder);
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
  if (!view->dtype || !is_float(*view->dtype) || *view->dtype == DType::f64) {
    user_error("{}: '{}' is {}; snug reads F32, BF16 and F16.", where, name, view->type_name);
  }
  return *view;
}

void AdapterWeights::check_against(const ParameterTable& parameters) const {
  std::set<std::string> known;
  for (const Parameter& parameter : parameters) {
    if (parameter.owner == Owner::model) continue;
    known.insert(require(parameter).name);
  }
  for (const TensorView& view : file_.tensors()) {
    // What PEFT saves of a targeted head beside its adapter.
    if (known.contains(view.name) || view.name.ends_with(".base_layer.weight")) continue;
    user_error("{}: '{}' belongs to no module that {} names in this base.", file_.path().string(),
               view.name, kAdapterConfig);
  }
}

}  // namespace snug
