#include "io/model_writer.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

constexpr auto kTokenizerFiles = std::to_array<std::string_view>({
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
});
constexpr auto kTemplateFolder = "additional_chat_templates";
constexpr auto kGenerationFile = "generation_config.json";

/// model.safetensors.index.json, as transformers writes it.
std::string index_text(const std::vector<Shard>& shards) {
  nlohmann::json map = nlohmann::json::object();
  std::int64_t bytes = 0;
  std::int64_t parameters = 0;
  for (const Shard& shard : shards) {
    for (const TensorSpec& tensor : shard.tensors) {
      map[tensor.name] = shard.file;
      bytes += byte_count(tensor);
      parameters += byte_count(tensor) / size_of(tensor.dtype);
    }
  }
  const nlohmann::json index = {
      {"metadata", {{"total_parameters", parameters}, {"total_size", bytes}}}, {"weight_map", map}};
  return index.dump(2) + "\n";
}

}  // namespace

std::vector<Shard> split_into_shards(const std::vector<TensorSpec>& tensors,
                                     std::int64_t most_bytes, std::string_view stem) {
  std::vector<Shard> shards;
  std::int64_t filled = 0;
  for (const TensorSpec& tensor : tensors) {
    const std::int64_t bytes = byte_count(tensor);
    if (shards.empty() || filled + bytes > most_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().tensors.push_back(tensor);
    filled += bytes;
  }
  if (shards.size() == 1) shards[0].file = fmt::format("{}.safetensors", stem);
  for (std::size_t i = 0; shards.size() > 1 && i < shards.size(); ++i) {
    shards[i].file = fmt::format("{}-{:05}-of-{:05}.safetensors", stem, i + 1, shards.size());
  }
  return shards;
}

ModelFolderWriter::ModelFolderWriter(const std::vector<TensorSpec>& weights,
                                     std::map<std::string, std::string> texts,
                                     const fs::path& tokenizer_source, std::int64_t shard_bytes,
                                     std::string_view stem)
    : shards_(split_into_shards(weights, shard_bytes, stem)), texts_(std::move(texts)) {
  if (shards_.size() > 1) {
    texts_[fmt::format("{}.safetensors.index.json", stem)] = index_text(shards_);
  }
  if (tokenizer_source.empty()) return;
  const auto copy = [&](const fs::path& name) {
    const fs::path source = tokenizer_source / name;
    if (texts_.contains(name.string())) return;
    if (fs::is_regular_file(source)) copies_[name.string()] = source;
  };
  for (const std::string_view name : kTokenizerFiles) copy(name);
  copy(kGenerationFile);
  if (fs::is_directory(tokenizer_source / kTemplateFolder)) {
    for (const auto& entry : fs::directory_iterator(tokenizer_source / kTemplateFolder)) {
      copy(fs::path(kTemplateFolder) / entry.path().filename());
    }
  }
}

std::int64_t ModelFolderWriter::total_bytes() const {
  std::int64_t total = 0;
  for (const Shard& shard : shards_) total += SafetensorsWriter::file_bytes(shard.tensors);
  for (const auto& [name, text] : texts_) total += static_cast<std::int64_t>(text.size());
  for (const auto& [name, source] : copies_) {
    total += static_cast<std::int64_t>(fs::file_size(source));
  }
  return total;
}

FolderChecksums ModelFolderWriter::write(const fs::path& folder,
                                         FunctionRef<void(const TensorSpec&, Sink)> fill) const {
  FolderChecksums sums;
  for (const auto& [name, text] : texts_) sums[name] = write_text(folder / name, text);
  for (const auto& [name, source] : copies_) {
    fs::create_directories((folder / name).parent_path());
    sums[name] = copy_file_durably(source, folder / name);
  }
  for (const Shard& shard : shards_) {
    sums[shard.file] = write_safetensors(folder / shard.file, shard.tensors, fill);
  }
  return sums;
}

FileChecksums write_safetensors(const fs::path& path, const std::vector<TensorSpec>& tensors,
                                FunctionRef<void(const TensorSpec&, ModelFolderWriter::Sink)> fill,
                                const std::map<std::string, std::string>& metadata) {
  SafetensorsWriter writer(path, tensors, metadata);
  for (const TensorSpec& tensor : writer.order()) {
    std::int64_t written = 0;
    const auto append = [&](std::span<const std::byte> bytes) {
      written += static_cast<std::int64_t>(bytes.size());
      writer.append(bytes);
    };
    fill(tensor, append);
    check(written == byte_count(tensor), "tensor {}: {} bytes written of {}", tensor.name, written,
          byte_count(tensor));
  }
  return writer.finish();
}

}  // namespace snug
