#include "io/model_files.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "io/near_path.h"

namespace snug {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr auto kIndexName = "model.safetensors.index.json";
constexpr auto kSingleName = "model.safetensors";

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_hub_name(std::string_view name) {
  return !name.empty() && is_letter_or_digit(name.front()) &&
         name.find("..") == std::string_view::npos &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return is_letter_or_digit(c) || c == '_' || c == '.' || c == '-';
         });
}

/// `name` or `owner/name`.
bool is_hub_id(std::string_view id) {
  const std::size_t slash = id.find('/');
  if (slash == std::string_view::npos) return is_hub_name(id);
  return is_hub_name(id.substr(0, slash)) && is_hub_name(id.substr(slash + 1));
}

/// Why a folder without safetensors weights cannot be used.
[[noreturn]] void refuse_folder(const fs::path& folder) {
  const std::string where = folder.string();
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  const auto is_pickle = [](const std::string& name) {
    return name.ends_with(".bin") || name.ends_with(".pth") || name.ends_with(".pt");
  };
  if (std::find(names.begin(), names.end(), "adapter_model.safetensors") != names.end()) {
    user_error("{}: an adapter, not a model. Give the model that adapter_config.json names.",
               where);
  }
  if (std::find(names.begin(), names.end(), "consolidated.safetensors") != names.end()) {
    user_error(
        "{}: consolidated.safetensors is in Mistral's own layout. Get the repository's "
        "model-*.safetensors and model.safetensors.index.json.",
        where);
  }
  const auto pickle = std::find_if(names.begin(), names.end(), is_pickle);
  if (pickle != names.end()) {
    user_error(
        "{}: only {} is there; snug reads safetensors, no pickles. Convert it: python -c "
        "\"from transformers import AutoModelForCausalLM as M; "
        "M.from_pretrained('{}').save_pretrained('{}-safetensors')\"",
        where, *pickle, where, where);
  }
  user_error("{}: no weights: neither {} nor {} is there (interrupted download?).", where,
             kSingleName, kIndexName);
}

std::string shape_text(std::span<const std::int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

/// The files that the index's `weight_map` names, in the order of their names, and how many tensors
/// it places in each. All are inside the folder.
std::map<std::string, std::size_t> read_index(const fs::path& index) {
  const Json json = parse_json(read_text(index), index.string());
  const auto map = json.find("weight_map");
  if (!json.is_object() || map == json.end() || !map->is_object() || map->empty()) {
    user_error("{}: no 'weight_map' with tensors in it.", index.string());
  }
  std::map<std::string, std::size_t> files;
  for (const auto& [tensor, file] : map->items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    const fs::path normal = fs::path(name).lexically_normal();
    if (normal.is_absolute() || *normal.begin() == ".." || !name.ends_with(".safetensors")) {
      user_error("{}: '{}' is in {}, expected the name of a safetensors file in this folder.",
                 index.string(), tensor, file.dump(-1, ' ', true));
    }
    ++files[name];
  }
  return files;
}

}  // namespace

fs::path find_model_folder(const std::string& name, const fs::path& cache) {
  if (name.empty()) user_error("the model's name is empty. Give a folder or a hub id.");
  std::error_code ignored;
  if (name.ends_with(".gguf")) {
    user_error(
        "{}: snug writes GGUF files (snug export) and reads none. Give the folder with safetensors "
        "that it was made from, or its hub id.",
        name);
  }
  if (fs::is_directory(name, ignored)) return name;
  if (fs::exists(name, ignored)) {
    user_error("{}: a file, expected the model's folder. Give {}.", name,
               fs::absolute(name).parent_path().string());
  }
  const auto near = near_path(name);
  const std::string guess = near ? fmt::format(" Did you mean {}?", near->string()) : "";
  const bool in_a_folder =
      fs::path(name).has_parent_path() && fs::is_directory(fs::path(name).parent_path(), ignored);
  if (!is_hub_id(name) || in_a_folder) user_error("{}: no such folder.{}", name, guess);
  std::string folder_name = "models--" + name;
  if (const auto slash = folder_name.find('/'); slash != folder_name.npos) {
    folder_name.replace(slash, 1, "--");
  }
  const fs::path repository = cache / folder_name;
  const fs::path main = repository / "refs" / "main";
  if (!fs::exists(main, ignored)) {
    if (near) user_error("{}: no such folder, nor a model in the hub's cache.{}", name, guess);
    user_error("'{}' is not on this machine; snug downloads nothing. Run: hf download {}", name,
               name);
  }
  std::string commit = read_text(main, 1000);
  commit.erase(std::find_if(commit.begin(), commit.end(), ::isspace), commit.end());
  const fs::path snapshot = repository / "snapshots" / commit;
  if (commit.empty() || !std::all_of(commit.begin(), commit.end(), ::isxdigit) ||
      !fs::is_regular_file(snapshot / "config.json", ignored)) {
    user_error("'{}' is only partly on this machine (interrupted download?). Run: hf download {}",
               name, name);
  }
  return snapshot;
}

bool has_weight_files(const fs::path& folder) {
  std::error_code ignored;
  return fs::exists(folder / kSingleName, ignored) || fs::exists(folder / kIndexName, ignored);
}

std::string read_config_text(const fs::path& folder) {
  const fs::path config = folder / "config.json";
  if (!fs::exists(config)) {
    user_error("{}: no config.json there; expected a model folder in Hugging Face layout.",
               folder.string());
  }
  return read_text(config, 10'000'000);
}

ModelWeights::ModelWeights(const fs::path& folder) : folder_(folder) {
  // As transformers: a single file wins over an index beside it.
  if (fs::exists(folder / kSingleName)) {
    open(folder / kSingleName);
  } else if (fs::exists(folder / kIndexName)) {
    open_index(folder / kIndexName);
  } else if (fs::is_directory(folder)) {
    refuse_folder(folder);
  } else {
    user_error("{}: no such folder.", folder.string());
  }
}

void ModelWeights::open(const fs::path& file) {
  const SafetensorsFile& opened = files_.emplace_back(file);
  for (const TensorView& view : opened.tensors()) places_[view.name] = {files_.size() - 1, &view};
}

void ModelWeights::open_index(const fs::path& index) {
  const auto names = read_index(index);
  files_.reserve(names.size());
  for (const auto& [file, tensors] : names) {
    const fs::path path = folder_ / fs::path(file).lexically_normal();
    if (!fs::exists(path)) {
      user_error("{}: missing; {} places {} tensors in it (interrupted download?).", path.string(),
                 kIndexName, tensors);
    }
    open(path);
  }
}

const TensorView* ModelWeights::find(std::string_view name) const {
  const auto found = places_.find(name);
  return found == places_.end() ? nullptr : found->second.view;
}

const TensorView& ModelWeights::require(std::string_view name,
                                        std::span<const std::int64_t> shape) const {
  const auto found = places_.find(name);
  if (found == places_.end()) {
    const auto all = names();
    const auto near = nearest(name, all);
    user_error("{}: '{}' is missing, which config.json asks for.{}", folder_.string(), name,
               near ? fmt::format(" The nearest is '{}'.", *near) : "");
  }
  const TensorView& view = *found->second.view;
  const std::string file = files_[found->second.file].path().string();
  if (!std::equal(shape.begin(), shape.end(), view.shape.begin(), view.shape.end())) {
    user_error("{}: '{}' has shape {}; config.json makes it {}.", file, name,
               shape_text(view.shape), shape_text(shape));
  }
  if (!view.dtype || !is_float(*view.dtype)) {
    user_error("{}: '{}' is {}; snug reads F64, F32, BF16 and F16.", file, name, view.type_name);
  }
  return view;
}

std::string ModelWeights::place_of(std::string_view name) const {
  const auto found = places_.find(name);
  return found == places_.end() ? folder_.string() : files_[found->second.file].path().string();
}

void ModelWeights::drop_pages(const TensorView& view) const {
  const auto found = places_.find(view.name);
  check(found != places_.end() && found->second.view->bytes.data() == view.bytes.data(),
        "tensor {} of another folder", view.name);
  files_[found->second.file].drop_pages(view);
}

std::vector<std::string_view> ModelWeights::names() const {
  std::vector<std::string_view> result;
  result.reserve(places_.size());
  for (const auto& [name, place] : places_) result.push_back(name);
  return result;
}

std::int64_t ModelWeights::total_bytes() const {
  std::int64_t total = 0;
  for (const auto& [name, place] : places_) {
    total += static_cast<std::int64_t>(place.view->bytes.size());
  }
  return total;
}

}  // namespace snug
