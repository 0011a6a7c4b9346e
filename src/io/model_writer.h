#pragma once
// Writing a model folder that transformers loads as it is.

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/function_ref.h"
#include "io/safetensors.h"

namespace snug {

/// One file of weights: its name and its tensors.
struct Shard {
  std::string file;
  std::vector<TensorSpec> tensors;
};

/// Deals tensors to shards of at most `most_bytes` of data each, in the order given; a larger
/// tensor gets a shard of its own. One shard is called STEM.safetensors.
std::vector<Shard> split_into_shards(const std::vector<TensorSpec>& tensors,
                                     std::int64_t most_bytes, std::string_view stem = "model");

/// A folder about to be written: its size is known before the first byte.
class ModelFolderWriter {
 public:
  static constexpr std::int64_t kShardBytes = 50'000'000'000;  // transformers' default

  /// `texts` are small files by name (config.json, generation_config.json, trainer_state.json, …).
  /// The tokenizer's files are copied from `tokenizer_source` unless that is empty, and so is
  /// generation_config.json where `texts` has none.
  ModelFolderWriter(const std::vector<TensorSpec>& weights,
                    std::map<std::string, std::string> texts,
                    const std::filesystem::path& tokenizer_source,
                    std::int64_t shard_bytes = kShardBytes, std::string_view stem = "model");

  /// Bytes of all files together.
  std::int64_t total_bytes() const;

  /// Takes the next bytes of the tensor being written.
  using Sink = FunctionRef<void(std::span<const std::byte>)>;
  /// Writes all files durably into `folder`, which exists. `fill` is called once a tensor, in the
  /// order of the files, and must hand all bytes of the tensor to its sink. The checksums are of
  /// what was written.
  FolderChecksums write(const std::filesystem::path& folder,
                        FunctionRef<void(const TensorSpec&, Sink)> fill) const;

 private:
  std::vector<Shard> shards_;
  std::map<std::string, std::string> texts_;
  std::map<std::string, std::filesystem::path> copies_;  ///< relative name -> source
};

/// Writes one safetensors file durably; `fill` as in ModelFolderWriter::write.
FileChecksums write_safetensors(const std::filesystem::path& path,
                                const std::vector<TensorSpec>& tensors,
                                FunctionRef<void(const TensorSpec&, ModelFolderWriter::Sink)> fill,
                                const std::map<std::string, std::string>& metadata = {
                                    {"format", "pt"}});

}  // namespace snug
