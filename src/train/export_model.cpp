#include "train/export_model.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "io/atomic_file.h"
#include "io/atomic_folder.h"
#include "io/gguf.h"
#include "io/model_writer.h"
#include "model/decoder.h"
#include "train/export_stream.h"
#include "train/gguf_model.h"
#include "train/run_setup.h"
#include "train/weights.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

/// UserError for settings that name an adapter, of which export would leave the base alone.
void refuse_adapters(const Settings& settings) {
  const std::string& adapter = settings.model.adapter;
  if (adapter.empty()) return;
  user_error(
      "{}: an adapter, not a model. Merge it first: snug merge model={} output_dir=MERGED, then "
      "snug export model=MERGED",
      adapter, adapter);
}

/// UserError for folders that hold something else than a model's own plain weights.
void refuse_other_folders(const fs::path& folder) {
  const std::string where = (folder / "config.json").string();
  const nlohmann::json config = parse_json(read_config_text(folder), where);
  if (!config.is_object() || !config.contains("quantization_config")) return;
  const nlohmann::json& how = config["quantization_config"];
  if (how.is_null()) return;
  const bool named = how.is_object() && how.contains("quant_method");
  user_error(
      "{}: the weights are quantised ({}); export reads plain weights. Nearest: snug merge, which "
      "writes them out in bf16, and export of that folder.",
      where, named ? how["quant_method"].dump() : "quantization_config");
}

ModelSource open_source(const Settings& settings) {
  refuse_adapters(settings);
  const std::string& name = settings.model.name_or_path;
  if (name.starts_with("shape:")) {
    user_error("{} is a shape without weights; export needs a model's folder.", name);
  }
  refuse_other_folders(find_model_folder(name));
  return open_model(settings.model);
}

/// The type asked for; none: as stored.
std::optional<GgmlType> type_asked_for(ExportType type) {
  switch (type) {
    case ExportType::automatic:
      return std::nullopt;
    case ExportType::fp32:
      return GgmlType::f32;
    case ExportType::fp16:
      return GgmlType::f16;
    case ExportType::bf16:
      return GgmlType::bf16;
    case ExportType::q8_0:
      return GgmlType::q8_0;
  }
  internal_error("export type {}", static_cast<int>(type));
}

DType dtype_of(GgmlType type) {
  switch (type) {
    case GgmlType::f32:
      return DType::f32;
    case GgmlType::f16:
      return DType::f16;
    case GgmlType::bf16:
      return DType::bf16;
    case GgmlType::q8_0:
      break;
  }
  user_error(
      "export_dtype=q8_0 is a type of GGUF files. Nearest: export_format=gguf, or "
      "export_dtype=bf16.");
}

void check_room(const fs::path& path, std::int64_t bytes) {
  const std::int64_t free = free_disk_bytes(path);
  if (bytes <= free) return;
  user_error("{}: needs {}, free on this disk {}. Free some space or choose another output_dir.",
             path.string(), decimal_bytes(bytes), decimal_bytes(free));
}

ExportResult write_folder(const Settings& settings, ModelSource model, const ModelWeights& weights,
                          const ParameterTable& parameters) {
  const auto type = type_asked_for(settings.exporting.dtype);
  std::map<std::string, const TensorView*> views;
  std::vector<TensorSpec> specs;
  bool narrowed = false;  // F64 becomes F32
  for (const Parameter& parameter : parameters) {
    const TensorView& view = stored_tensor(parameter, weights);
    views[parameter.name] = &view;
    specs.push_back(
        {parameter.name, type ? dtype_of(*type) : dtype_of(ggml_type(*view.dtype)), view.shape});
    narrowed |= specs.back().dtype != *view.dtype;
  }
  if (type || narrowed) set_stored_dtype(model, dtype_of(type.value_or(GgmlType::f32)));
  const ModelFolderWriter writer(specs, {{"config.json", model.config_json}}, model.folder,
                                 settings.exporting.max_shard_size.count);
  ExportResult result;
  result.path = *settings.run.output_dir;
  result.type = name_of(ggml_type(specs.front().dtype));
  result.tensors = static_cast<std::int64_t>(specs.size());
  result.bytes = writer.total_bytes();
  if (fs::exists(result.path) && (!fs::is_directory(result.path) || !fs::is_empty(result.path))) {
    user_error("{}: is there and not empty. Name another output_dir.", result.path.string());
  }
  check_room(result.path, result.bytes);
  AtomicFolder folder(result.path);
  writer.write(folder.path(), [&](const TensorSpec& spec, ModelFolderWriter::Sink sink) {
    const TensorView& view = *views.at(spec.name);
    stream_tensor(view, ggml_type(spec.dtype), 0, sink);
    weights.drop_pages(view);
  });
  folder.commit();
  return result;
}

ExportResult write_gguf(const Settings& settings, const ModelSource& model,
                        const ModelWeights& weights, const ParameterTable& parameters) {
  const GgufModel gguf =
      make_gguf_model(model, weights, parameters, type_asked_for(settings.exporting.dtype));
  std::vector<GgufTensor> tensors;
  for (const GgufSource& source : gguf.sources) tensors.push_back(source.tensor);
  ExportResult result;
  result.path = fs::path(*settings.run.output_dir) /
                fmt::format("{}-{}.gguf", model.name, name_of(gguf.type));
  result.type = name_of(gguf.type);
  result.tensors = static_cast<std::int64_t>(tensors.size());
  result.bytes = GgufWriter::file_bytes(gguf.metadata, tensors);
  result.notes = gguf.notes;
  if (fs::exists(result.path)) {
    user_error("{}: is there already. Remove it or name another output_dir.", result.path.string());
  }
  AtomicFile file(result.path);
  GgufWriter writer(file.path(), gguf.metadata, tensors);
  for (const GgufSource& source : gguf.sources) {
    if (source.view == nullptr) {
      writer.append(std::as_bytes(std::span(source.values)));
      continue;
    }
    stream_tensor(*source.view, source.tensor.type, source.heads,
                  [&](std::span<const std::byte> bytes) { writer.append(bytes); });
    weights.drop_pages(*source.view);
  }
  writer.finish();
  file.commit();
  return result;
}

}  // namespace

ExportResult export_model(const Settings& settings) {
  check(settings.run.output_dir.has_value(), "no output_dir");
  const ModelSource model = open_source(settings);
  const ModelWeights weights(model.folder);
  std::error_code absent;
  if (fs::equivalent(model.folder, *settings.run.output_dir, absent)) {
    user_error("output_dir '{}' is the model's own folder. Name another output_dir.",
               *settings.run.output_dir);
  }
  const ParameterTable parameters = build_loss(model.config, {1, 1}, 1).parameters;
  ExportResult result = settings.exporting.format == ExportFormat::gguf
                            ? write_gguf(settings, model, weights, parameters)
                            : write_folder(settings, model, weights, parameters);
  result.notes.insert(result.notes.begin(), model.notes.begin(), model.notes.end());
  return result;
}

}  // namespace snug
