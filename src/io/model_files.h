#pragma once
// Model folders in Hugging Face layout: where they are and what they hold.

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.h"

namespace snug {

/// The Hugging Face cache of this user: HF_HUB_CACHE, else HF_HOME/hub, else
/// XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub.
std::filesystem::path hub_cache();

/// The folder of a model: `name` as a path, else as a hub id in `cache` (refs/main and its
/// snapshot). UserError saying how to get it when it is not on this machine.
std::filesystem::path find_model_folder(const std::string& name,
                                        const std::filesystem::path& cache = hub_cache());

/// The text of the folder's config.json.
std::string read_config_text(const std::filesystem::path& folder);

/// The weights of a model folder: model.safetensors, or shards and their index. All files are
/// mapped and checked on opening; a tensor costs nothing until it is read.
class ModelWeights {
 public:
  /// UserError for missing shards, tensors that the index promises and no shard has, and folders
  /// with weights in another format only.
  explicit ModelWeights(const std::filesystem::path& folder);

  /// The tensor, or null.
  const TensorView* find(std::string_view name) const;
  /// The tensor, with this shape. UserError naming it, and where it should be or is.
  const TensorView& require(std::string_view name, std::span<const std::int64_t> shape) const;
  /// Where messages say that a tensor is: its file, or the folder when there is none of that name.
  std::string place_of(std::string_view name) const;
  /// For a model whose config.json ties the head to the embedding: UserError if the files hold a
  /// head of their own with other values, which transformers would not tie.
  void check_tied_head() const;
  /// Gives the tensor's pages back.
  void drop_pages(const TensorView& view) const;

  /// All names, sorted.
  std::vector<std::string_view> names() const;
  std::int64_t total_bytes() const;

 private:
  struct Place {
    std::size_t file;
    const TensorView* view;
  };
  void open_single(const std::filesystem::path& file);
  void open_index(const std::filesystem::path& index);

  std::filesystem::path folder_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, Place, std::less<>> places_;
};

}  // namespace snug
