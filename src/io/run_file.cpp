#include "io/run_file.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <random>
#include <string_view>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "io/file.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

/// Without one of these a folder is no model to transformers and PEFT.
constexpr auto kConfigs = std::to_array<const char*>({"config.json", "adapter_config.json"});

bool is_config(const std::string& name) {
  return std::find(kConfigs.begin(), kConfigs.end(), name) != kConfigs.end();
}

void move(const fs::path& from, const fs::path& to) {
  std::error_code error;
  if (fs::is_directory(to)) fs::remove_all(to, error);
  if (!error) fs::rename(from, to, error);
  if (error) user_error("{}: cannot be written: {}.", to.string(), error.message());
}

void erase(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) user_error("{}: cannot be removed: {}.", path.string(), error.message());
}

std::string new_id() {
  std::random_device device;
  return fmt::format("{:08x}{:08x}", device(), device());
}

}  // namespace

bool is_model_file(const std::string& name) {
  static constexpr auto kNames = std::to_array<std::string_view>(
      {"config.json", "adapter_config.json", "generation_config.json", "tokenizer.json",
       "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json",
       "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json",
       "additional_chat_templates"});
  static constexpr auto kEndings =
      std::to_array<std::string_view>({".safetensors", ".safetensors.index.json", ".bin.index.json",
                                       ".gguf", ".bin", ".pt", ".pth"});
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end() ||
         std::any_of(kEndings.begin(), kEndings.end(),
                     [&](std::string_view ending) { return name.ends_with(ending); });
}

RunFile::RunFile(fs::path folder, std::string id)
    : folder_(std::move(folder)), id_(id.empty() ? new_id() : std::move(id)) {}

std::optional<RunFile> RunFile::read(const fs::path& folder) {
  const fs::path path = folder / kName;
  if (!fs::exists(path)) return std::nullopt;
  try {
    const nlohmann::json json = parse_json(read_text(path), path.string());
    RunFile run(folder, json.at("run").get<std::string>());
    run.model_ = json.at("model").get<std::set<std::string>>();
    run.incoming_ = json.at("incoming").get<std::set<std::string>>();
    run.aside_ = json.at("aside").get<std::string>();
    const auto inside = [](const std::string& name) { return fs::path(name).filename() == name; };
    if (std::all_of(run.model_.begin(), run.model_.end(), inside) &&
        std::all_of(run.incoming_.begin(), run.incoming_.end(), inside) &&
        (run.aside_.empty() || inside(run.aside_))) {
      return run;
    }
    user_error("{}: names files of other folders.", path.string());
  } catch (const nlohmann::json::exception& error) {
    user_error("{}: {}. Name another output_dir.", path.string(), error.what());
  }
}

void RunFile::save() const {
  const nlohmann::json json = {
      {"schema", 1}, {"run", id_}, {"model", model_}, {"incoming", incoming_}, {"aside", aside_}};
  replace_text(folder_ / kName, json.dump(2) + "\n");
}

void RunFile::replace_model(AtomicFolder& aside) {
  const std::vector<std::string> names = aside.keep_aside();
  for (const std::string& name : names) {
    if (!fs::exists(folder_ / name) || owns(name) || !is_model_file(name)) continue;
    user_error("'{}' is not this run's. The finished model lies in '{}'.",
               (folder_ / name).string(), aside.path().string());
  }
  incoming_ = {names.begin(), names.end()};
  aside_ = aside.path().filename().string();
  save();
  place(aside.path());
}

void RunFile::finish_model() {
  if (!incoming_.empty()) place(folder_ / aside_);
}

void RunFile::place(const fs::path& aside) {
  if (std::any_of(incoming_.begin(), incoming_.end(), [&](const std::string& name) {
        return is_config(name) && fs::exists(aside / name);
      })) {
    for (const char* config : kConfigs) {
      if (model_.contains(config)) erase(folder_ / config);
    }
    sync_folder(folder_);
    for (const std::string& name : model_) {
      if (!incoming_.contains(name)) erase(folder_ / name);
    }
    for (const bool config : {false, true}) {
      for (const std::string& name : incoming_) {
        if (is_config(name) == config && fs::exists(aside / name)) {
          move(aside / name, folder_ / name);
        }
      }
      sync_folder(folder_);
    }
  }
  model_.clear();
  for (const std::string& name : incoming_) {
    if (is_model_file(name)) model_.insert(name);
  }
  incoming_.clear();
  aside_.clear();
  save();
  remove_leftovers(folder_);
}

}  // namespace snug
