#include "train/run_setup.h"

#include <algorithm>
#include <fstream>
#include <utility>

#include "core/error.h"
#include "core/heap.h"
#include "core/text.h"
#include "data/jinja/jinja_template.h"
#include "data/packing.h"
#include "data/tokenizer/special_tokens.h"
#include "exec/host_memory.h"
#include "io/adapter_files.h"
#include "io/file.h"
#include "io/model_files.h"
#include "model/shapes.h"
#include "passes/quantize.h"
#include "train/stored_model.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kShapePrefix = "shape:";
constexpr std::int64_t kDefaultMaxLength = 2048;

std::int64_t status_bytes(std::string_view key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key)) return std::stoll(line.substr(key.size())) * 1024;
  }
  return 0;
}

std::string last_name(const fs::path& path) {
  const fs::path clean = path.lexically_normal();
  return (clean.has_filename() ? clean.filename() : clean.parent_path().filename()).string();
}

}  // namespace

Settings with_adapter(Settings settings) {
  if (settings.model.adapter.empty()) {
    const std::string& model = settings.model.name_or_path;
    if (model.empty() || !is_adapter_folder(model)) return settings;
    settings.model.adapter = std::exchange(settings.model.name_or_path, "");
  }
  adopt_adapter(fs::path(settings.model.adapter), settings);
  return settings;
}

ModelSource open_model(const ModelSettings& settings) {
  ModelSource model;
  model.adapter = settings.adapter;
  if (settings.name_or_path.starts_with(kShapePrefix)) {
    model.name = settings.name_or_path.substr(kShapePrefix.size());
    model.config = shape_config(model.name);
    model.config_json = write_config(model.config);
    model.generation_config_json = write_generation_config(model.config);
    return model;
  }
  model.folder = find_model_folder(settings.name_or_path);
  model.name = last_name(settings.name_or_path);
  model.config_json = read_config_text(model.folder);
  model.config = parse_config(model.config_json, (model.folder / "config.json").string());
  model.has_weights = settings.init == InitWeights::pretrained;
  adopt_stored_weights(model);
  return model;
}

void set_stored_dtype(ModelSource& model, DType dtype) {
  model.config_json = config_with_dtype(model.config_json, "config.json", dtype);
}

void adopt_stored_dtype(Settings& settings, const ModelSource& model) {
  if (settings.is_set("bf16") || settings.is_set("fp16")) return;
  const DType stored = model.config.dtype.value_or(DType::f32);
  settings.precision.bf16 = stored == DType::bf16;
  settings.precision.fp16 = stored == DType::f16;
}

void adopt_quantization(Settings& settings, const ModelSource& model) {
  if (!model.config.quantization || model.folder.empty()) return;
  const StoredQuantization& stored = *model.config.quantization;
  const auto as_stored = quantization_of(stored);
  const auto compare = [&](const char* key, const auto& wanted, const auto& there) {
    if (!settings.is_set(key) || wanted == there) return;
    user_error(
        "{}: {} does not fit '{}', whose weights are stored as {}{}. Leave it out, or give the "
        "unquantised model.",
        settings.origin(key).place, key, settings.model.name_or_path, name_of(stored.format),
        stored.double_quant ? " with double quantisation" : "");
  };
  const auto& wanted = settings.quantization;
  compare("load_in_4bit", wanted.load_in_4bit, as_stored.load_in_4bit);
  compare("load_in_8bit", wanted.load_in_8bit, as_stored.load_in_8bit);
  compare("bnb_4bit_quant_type", wanted.type, as_stored.type);
  compare("bnb_4bit_use_double_quant", wanted.double_quant, as_stored.double_quant);
  compare("llm_int8_skip_modules", wanted.skip, as_stored.skip);
  settings.quantization = as_stored;
}

TokenRules token_rules(const Settings& settings, const ModelConfig& config) {
  const std::int64_t wanted = settings.data.max_length.value_or(kDefaultMaxLength);
  return {.max_length = std::min(wanted, config.max_position_embeddings),
          .append_eos = settings.data.append_eos,
          .vocab_size = config.vocab_size,
          .train_on = settings.data.train_on,
          .excess = settings.data.excess_length,
          .truncation = settings.data.truncation};
}

namespace {

/// The id of a special token's text; -1 where the folder names none.
std::int32_t id_of(const std::optional<std::string>& text, std::string_view key,
                   const Tokenizer& tokenizer, const fs::path& folder) {
  if (!text || text->empty()) return -1;
  if (const auto id = tokenizer.token_id(*text)) return *id;
  user_error("{}: {} is '{}', which is no token of tokenizer.json.", folder.string(), key, *text);
}

/// Takes val_size rows off for evaluation.
void keep_back(const Settings& settings, DataSource& data) {
  const std::int64_t rows = settings.data.val_size.of(data.train.size());
  if (rows >= data.train.size()) {
    user_error("val_size={} keeps all {} rows for evaluation; none is left to train on.",
               settings.data.val_size.value, data.train.size());
  }
  const std::int64_t seed = settings.data.data_seed.value_or(settings.run.seed);
  if (rows > 0) data.eval = data.train.split_off(rows, static_cast<std::uint64_t>(seed));
}

void pack_rows(const DataSettings& settings, DataSource& data) {
  if (settings.packing) data.train = pack(data.train, data.max_length);
  if (settings.eval_packing.value_or(settings.packing) && data.eval.size() > 0) {
    data.eval = pack(data.eval, data.max_length);
  }
}

}  // namespace

DataSource open_encoder(const Settings& settings, const ModelSource& model) {
  DataSource data;
  data.rules = token_rules(settings, model.config);
  data.max_length = data.rules.max_length;
  if (model.folder.empty()) return data;
  if (const fs::path file = model.folder / "tokenizer.json"; fs::exists(file)) {
    data.tokenizer = Tokenizer::from_file(file);
  }
  const SpecialTokens special = read_special_tokens(model.folder);
  if (data.tokenizer) {
    data.rules.eos = id_of(special.eos, "eos_token", *data.tokenizer, model.folder);
    data.rules.bos = id_of(special.bos, "bos_token", *data.tokenizer, model.folder);
  }
  data.chat = open_chat_template(settings.data.chat_template, model.folder);
  if (!settings.data.chat_template.empty()) {
    data.named_template =
        find_chat_template(settings.data.chat_template, model.folder).texts.at("default");
  }
  return data;
}

DataSource open_data(const Settings& settings, const ModelSource& model) {
  DataSource data = open_encoder(settings, model);
  if (settings.data.train_files.empty()) return data;
  const RowEncoder encoder = data.encoder();
  data.train = load_dataset(settings.data.train_files, settings.data, encoder);
  data.name = fs::path(settings.data.train_files.front()).stem().string();
  if (!settings.data.eval_files.empty()) {
    data.eval = load_dataset(settings.data.eval_files, settings.data, encoder);
  } else {
    keep_back(settings, data);
  }
  pack_rows(settings.data, data);
  // A renderer that has not started: the helper's memory is not the run's.
  if (data.chat) data.chat = open_chat_template(settings.data.chat_template, model.folder);
  return data;
}

DataSource open_rows(const Settings& settings, const ModelSource& model) {
  DataSource rows;
  {
    const DataSource read = in_other_heap([&] { return open_data(settings, model); });
    rows.train = read.train;
    rows.eval = read.eval;
    rows.name = read.name;
    rows.max_length = read.max_length;
    rows.named_template = read.named_template;
  }
  give_back_free_heap();
  return rows;
}

std::int64_t anonymous_bytes() { return status_bytes("RssAnon:"); }
std::int64_t peak_resident_bytes() { return status_bytes("VmHWM:"); }

ProcessMemory process_memory(const DeviceSettings& settings, const Target& target) {
  ProcessMemory memory;
  if (target.card.present()) {
    memory.budget = settings.memory ? settings.memory->count : target.card.memory_bytes;
    memory.from = settings.memory ? "device_memory" : "the card's memory";
    return memory;
  }
  if (settings.memory) {
    memory.budget = settings.memory->count;
    memory.from = "device_memory";
    return memory;
  }
  const HostRoom room = host_room();
  memory.budget = room.bytes / 10 * 9;
  memory.from =
      fmt::format("device_memory=auto: 90 % of {}, {} now", room.from, binary_bytes(room.bytes));
  return memory;
}

}  // namespace snug
