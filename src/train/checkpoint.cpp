#include "train/checkpoint.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "core/settings_load.h"
#include "io/atomic_folder.h"
#include "io/checkpoints.h"
#include "io/file.h"

namespace snug {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kOptimizer = "optimizer.safetensors";
constexpr const char* kScheduler = "scheduler.json";
constexpr const char* kRandom = "rng_state.json";
constexpr const char* kData = "dataloader_state.json";
constexpr const char* kScaler = "scaler.json";
constexpr const char* kRecipe = "recipe.json";
constexpr const char* kTrainer = "trainer_state.json";

void add_state_texts(std::map<std::string, std::string>& texts, const Progression& p) {
  texts[kScheduler] =
      Json{{"applied_steps", p.applied}, {"last_lr", p.learning_rate}}.dump(2) + "\n";
  if (p.loss_scale) texts[kScaler] = p.loss_scale->to_json();
  texts[kRecipe] = Json{{"activation_checkpointing", p.recompute},
                        {"per_device_train_batch_size", p.trainer.train_batch_size}}
                       .dump(2) +
                   "\n";
  texts[kRandom] =
      Json{{"generator", "philox4x32-10"}, {"seed", p.seed}, {"computed_on", p.computed_on}}.dump(
          2) +
      "\n";
  texts[kData] = Json{{"epoch", p.data.epoch},
                      {"step_in_epoch", p.data.step_in_epoch},
                      {"rows", p.data.rows},
                      {"rows_per_step", p.data.rows_per_step},
                      {"fingerprint", fmt::format("{:016x}", p.data.fingerprint)}}
                     .dump(2) +
                 "\n";
}

}  // namespace

SavedModel saved_model(const ModelSource& model, const Settings& settings,
                       const ParameterTable& parameters) {
  SavedModel saved{.texts = {}, .tokenizer_source = model.folder};
  if (!model.chat_template.empty()) saved.texts["chat_template.jinja"] = model.chat_template;
  if (has_adapter(parameters)) {
    saved.texts.emplace(kAdapterConfig, adapter_config(settings, parameters));
    return saved;
  }
  saved.texts["config.json"] = model.config_json;
  if (!model.generation_config_json.empty()) {
    saved.texts["generation_config.json"] = model.generation_config_json;
  }
  return saved;
}

CheckpointWriter::CheckpointWriter(const Recipe& recipe, const Executor& executor, SavedModel model)
    : recipe_(recipe),
      executor_(executor),
      model_(std::move(model)),
      weights_(recipe.module->parameters) {}

ModelFolderWriter CheckpointWriter::folder_writer(std::map<std::string, std::string> texts) const {
  const bool adapter = has_adapter(recipe_.module->parameters);
  texts.insert(model_.texts.begin(), model_.texts.end());
  return {weights_.specs(), std::move(texts), model_.tokenizer_source,
          ModelFolderWriter::kShardBytes, adapter ? kAdapterStem : "model"};
}

FolderChecksums CheckpointWriter::write_weights(const ModelFolderWriter& writer,
                                                const fs::path& folder) const {
  return writer.write(folder, [&](const TensorSpec& tensor, ModelFolderWriter::Sink sink) {
    weights_.write(tensor, [&](std::string_view name) { return executor_.bytes(name); }, sink);
  });
}

std::int64_t CheckpointWriter::model_bytes() const {
  return folder_writer({{"config.yaml", ""}}).total_bytes();
}

std::int64_t CheckpointWriter::checkpoint_bytes(bool only_model) const {
  if (only_model) return model_bytes();
  return model_bytes() + SafetensorsWriter::file_bytes(state_specs(recipe_.module->parameters));
}

FileChecksums CheckpointWriter::write_state(const fs::path& folder) const {
  return write_safetensors(folder / kOptimizer, state_specs(recipe_.module->parameters),
                           [&](const TensorSpec& tensor, ModelFolderWriter::Sink sink) {
                             sink(executor_.bytes(tensor.name));
                           });
}

fs::path CheckpointWriter::save(const fs::path& output, const Progression& progression,
                                const std::string& config_yaml, const std::string& run,
                                bool only_model) const {
  const fs::path target = output / fmt::format("checkpoint-{}", progression.trainer.global_step);
  AtomicFolder folder(target);
  std::map<std::string, std::string> texts = {{"config.yaml", config_yaml},
                                              {kTrainer, progression.trainer.to_json()}};
  if (!only_model) add_state_texts(texts, progression);
  FolderChecksums sums = write_weights(folder_writer(std::move(texts)), folder.path());
  if (!only_model) sums[kOptimizer] = write_state(folder.path());
  write_text(folder.path() / kChecksumsFile, checksums_text(sums, run));
  folder.replace();
  return target;
}

void CheckpointWriter::save_model(const fs::path& output, RunFile& run, const TrainerState& trainer,
                                  const std::string& config_yaml) const {
  AtomicFolder folder(output / "final-model");
  write_weights(folder_writer({{"config.yaml", config_yaml}, {kTrainer, trainer.to_json()}}),
                folder.path());
  run.replace_model(folder);
}

Progression read_progression(const fs::path& folder) {
  if (!fs::exists(folder / kOptimizer)) {
    user_error(
        "{}: holds the weights alone (save_only_model), so it cannot be gone on from. Start a run "
        "of its own with {}.",
        folder.string(), shell_word("model=" + folder.string()));
  }
  Progression p;
  p.trainer = TrainerState::from_json(read_text(folder / kTrainer), (folder / kTrainer).string());
  const auto read = [&](const char* name, auto&& take) {
    const std::string where = (folder / name).string();
    const Json json = parse_json(read_text(folder / name), where);
    try {
      take(json);
    } catch (const Json::exception& error) {
      user_error("{}: {}. Resume from another checkpoint.", where, error.what());
    } catch (const std::logic_error& error) {
      user_error("{}: {}. Resume from another checkpoint.", where, error.what());
    }
  };
  read(kScheduler, [&](const Json& json) {
    p.applied = json.at("applied_steps").get<std::int64_t>();
    p.learning_rate = json.at("last_lr").get<double>();
  });
  read(kRandom, [&](const Json& json) {
    p.seed = json.at("seed").get<std::int64_t>();
    p.computed_on = json.value("computed_on", std::string());
  });
  if (fs::exists(folder / kRecipe)) {
    read(kRecipe, [&](const Json& json) {
      p.recompute = json.at("activation_checkpointing").get<std::string>();
    });
  }
  if (fs::exists(folder / kScaler)) {
    const fs::path scaler = folder / kScaler;
    p.loss_scale = LossScale::from_json(read_text(scaler), scaler.string());
  }
  read(kData, [&](const Json& json) {
    p.data.epoch = json.at("epoch").get<std::int64_t>();
    p.data.step_in_epoch = json.at("step_in_epoch").get<std::int64_t>();
    p.data.rows = json.at("rows").get<std::int64_t>();
    p.data.rows_per_step = json.at("rows_per_step").get<std::int64_t>();
    p.data.fingerprint = std::stoull(json.at("fingerprint").get<std::string>(), nullptr, 16);
  });
  return p;
}

Progression load_checkpoint(const fs::path& folder, const ModelSource& model, const Recipe& recipe,
                            const Executor& executor, ThreadPool& pool) {
  check_checkpoint(folder);
  const Progression progression = read_progression(folder);
  const auto bytes = [&](std::string_view name) { return executor.bytes(name); };
  const ParameterTable& parameters = recipe.module->parameters;
  if (has_adapter(parameters)) {
    ModelSource source = model;
    source.adapter = folder;
    fill_weights(parameters, source, static_cast<std::uint64_t>(progression.seed), bytes, pool);
  } else {
    load_weights(parameters, ModelWeights(folder), bytes, pool);
  }
  const SafetensorsFile file(folder / kOptimizer);
  for (const TensorSpec& spec : state_specs(recipe.module->parameters)) {
    const TensorView* view = file.find(spec.name);
    if (view == nullptr) {
      user_error("{}: '{}' is missing. The checkpoint is of a run with other settings.",
                 (folder / kOptimizer).string(), spec.name);
    }
    if (view->dtype != spec.dtype || view->shape != spec.shape) {
      user_error("{}: '{}' has another type or shape than this run's.",
                 (folder / kOptimizer).string(), spec.name);
    }
    std::copy(view->bytes.begin(), view->bytes.end(), bytes(spec.name).begin());
    file.drop_pages(*view);
  }
  return progression;
}

}  // namespace snug
