#include "io/adapter_config.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "core/error.h"
#include "core/json.h"
#include "io/file.h"

namespace snug {
namespace {

using Json = nlohmann::json;

/// PEFT's LoraConfig, field by field (peft 0.21, tuners/lora/config.py).
enum class Meaning : std::uint8_t {
  read,       ///< taken into the settings
  checked,    ///< has rules of its own
  no_effect,  ///< nothing that an adapter computes
  refused     ///< of a feature that snug has not; some values ask for nothing
};
struct Field {
  std::string_view key;
  Meaning meaning;
};
constexpr auto kFields = std::to_array<Field>({
    {"alora_invocation_tokens", Meaning::refused},
    {"alpha_pattern", Meaning::read},
    {"arrow_config", Meaning::refused},
    {"auto_mapping", Meaning::no_effect},
    {"base_model_name_or_path", Meaning::read},
    {"bias", Meaning::checked},
    {"corda_config", Meaning::no_effect},  // init_lora_weights decides
    {"ensure_weight_tying", Meaning::refused},
    {"eva_config", Meaning::no_effect},
    {"exclude_modules", Meaning::read},
    {"fan_in_fan_out", Meaning::refused},
    {"inference_mode", Meaning::no_effect},
    {"init_lora_weights", Meaning::checked},
    {"kasa_config", Meaning::refused},
    {"layer_replication", Meaning::refused},
    {"layers_pattern", Meaning::read},
    {"layers_to_transform", Meaning::read},
    {"loftq_config", Meaning::no_effect},
    {"lora_alpha", Meaning::read},
    {"lora_bias", Meaning::refused},
    {"lora_dropout", Meaning::read},
    {"lora_ga_config", Meaning::no_effect},
    {"megatron_config", Meaning::refused},
    {"megatron_core", Meaning::no_effect},  // a module's name, for megatron_config
    {"modules_to_save", Meaning::read},
    {"monteclora_config", Meaning::refused},
    {"peft_type", Meaning::checked},
    {"peft_version", Meaning::no_effect},
    {"qalora_group_size", Meaning::no_effect},  // use_qalora decides
    {"r", Meaning::read},
    {"rank_pattern", Meaning::read},
    {"revision", Meaning::no_effect},  // of the base; the cache has one
    {"runtime_config", Meaning::no_effect},
    {"target_modules", Meaning::read},
    {"target_parameters", Meaning::refused},
    {"task_type", Meaning::checked},
    {"trainable_token_indices", Meaning::refused},
    {"use_bdlora", Meaning::refused},
    {"use_dora", Meaning::read},
    {"use_qalora", Meaning::refused},
    {"use_rslora", Meaning::read},
    {"velora_config", Meaning::refused},
});

/// Whether an adapter of this init_lora_weights is loaded as it lies: the start was A and B alone.
/// The others take their start out of the base's weights when PEFT loads them again, or train a
/// part of the adapter only.
bool loads_as_stored(const Json& start) {
  if (start.is_null() || start.is_boolean()) return true;
  if (!start.is_string()) return false;
  std::string name = start.get<std::string>();
  if (name == "orthogonal" || name == "eva" || name == "lora_ga") return true;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return name == "gaussian";
}

bool asks_nothing(const Json& value) {
  return value.is_null() || value == false || (value.is_structured() && value.empty());
}

}  // namespace

AdapterConfig::AdapterConfig(const std::filesystem::path& file)
    : where_(file.string()), json_(parse_json(read_text(file), where_)) {
  if (!json_.is_object()) user_error("{}: not an object.", where_);
  if (text("peft_type").value_or("") != "LORA") {
    user_error("{}: peft_type is {}; snug reads LORA.", where_,
               json_.value("peft_type", Json()).dump());
  }
  for (const auto& [key, value] : json_.items()) check_field(key, value);
}

void AdapterConfig::check_field(const std::string& key, const Json& value) const {
  const auto row = std::find_if(kFields.begin(), kFields.end(),
                                [&](const Field& field) { return field.key == key; });
  const bool known = row != kFields.end();
  if ((!known || row->meaning == Meaning::refused) && !asks_nothing(value)) {
    user_error("{}: {} is {}, which {}.", where_, key, value.dump(-1, ' ', true),
               known ? "is not in this version" : "snug does not know");
  }
  if (key == "bias" && !value.is_null() && value != "none") {
    user_error("{}: bias is {}; snug reads adapters with bias 'none'.", where_, value.dump());
  }
  if (key == "task_type" && !value.is_null() && value != "CAUSAL_LM") {
    user_error("{}: task_type is {}; snug reads CAUSAL_LM.", where_, value.dump());
  }
  if (key == "init_lora_weights" && !loads_as_stored(value)) {
    user_error(
        "{}: init_lora_weights is {}: PEFT changes the base, or what is trained, when it loads "
        "such an adapter; snug does not. Have PEFT write it as plain LoRA: save_pretrained(..., "
        "path_initial_model_for_weight_conversion=FOLDER).",
        where_, value.dump(-1, ' ', true));
  }
}

const Json* AdapterConfig::find(std::string_view key) const {
  const auto found = json_.find(key);
  return found == json_.end() || found->is_null() ? nullptr : &*found;
}

void AdapterConfig::wrong(std::string_view key, const Json& found,
                          std::string_view expected) const {
  user_error("{}: {} is {}, expected {}.", where_, key, found.dump(), expected);
}

template <class T>
std::optional<T> AdapterConfig::value(std::string_view key, bool (Json::*is)() const noexcept,
                                      std::string_view expected) const {
  const Json* found = find(key);
  if (found == nullptr) return std::nullopt;
  if (!(found->*is)()) wrong(key, *found, expected);
  return found->get<T>();
}

template <class T>
std::vector<T> AdapterConfig::list(std::string_view key, bool (Json::*is)() const noexcept,
                                   std::string_view expected) const {
  const Json* found = find(key);
  if (found == nullptr) return {};
  if ((found->*is)()) return {found->get<T>()};
  if (!found->is_array()) wrong(key, *found, expected);
  std::vector<T> result;
  for (const Json& item : *found) {
    if (!(item.*is)()) wrong(key, *found, expected);
    result.push_back(item.get<T>());
  }
  return result;
}

std::optional<std::string> AdapterConfig::text(std::string_view key) const {
  return value<std::string>(key, &Json::is_string, "text");
}
std::optional<double> AdapterConfig::number(std::string_view key) const {
  return value<double>(key, &Json::is_number, "a number");
}
std::optional<bool> AdapterConfig::flag(std::string_view key) const {
  return value<bool>(key, &Json::is_boolean, "true or false");
}
std::vector<std::string> AdapterConfig::texts(std::string_view key) const {
  return list<std::string>(key, &Json::is_string, "a list of names");
}
std::vector<std::int64_t> AdapterConfig::numbers(std::string_view key) const {
  return list<std::int64_t>(key, &Json::is_number_integer, "a list of numbers");
}

std::vector<std::string> AdapterConfig::expression_or_names(std::string_view key) const {
  const Json* found = find(key);
  if (found == nullptr || !found->is_string()) return texts(key);
  const auto expression = found->get<std::string>();
  if (expression.empty()) return {};
  return {fmt::format("({})", expression)};
}

NamedNumbers AdapterConfig::pattern(std::string_view key) const {
  NamedNumbers result;
  const Json* found = find(key);
  if (found == nullptr) return result;
  if (!found->is_object()) wrong(key, *found, "a map of numbers");
  for (const auto& [name, item] : found->items()) {
    if (!item.is_number()) wrong(key, *found, "a map of numbers");
    result.emplace_back(name, item.get<double>());
  }
  return result;
}

}  // namespace snug
