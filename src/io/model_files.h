#pragma once
// Model folders in Hugging Face layout: where they are and what they hold.

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/hub_cache.h"
#include "io/safetensors.h"

namespace snug {

/// The folder of a model: `name` as a path, else as a hub id in `cache` (refs/main and its
/// snapshot). UserError saying how to get it when it is not on this machine.
std::filesystem::path find_model_folder(const std::string& name,
                                        const std::filesystem::path& cache = hub_cache());

/// The text of the folder's config.json.
std::string read_config_text(const std::filesystem::path& folder);

/// Whether the folder has weights in safetensors.
bool has_weight_files(const std::filesystem::path& folder);

/// The weights of a model folder: model.safetensors, or the files that the index names. As in
/// transformers, what these files hold counts, not which tensors the index lists, and of two
/// tensors of one name that of the last file. All files are mapped and checked on opening; a tensor
/// costs nothing until it is read.
class ModelWeights {
 public:
  /// UserError for missing files and folders with weights in another format only.
  explicit ModelWeights(const std::filesystem::path& folder);

  /// The tensor, or null.
  const TensorView* find(std::string_view name) const;
  /// The tensor, with this shape. UserError naming it, and where it should be or is.
  const TensorView& require(std::string_view name, std::span<const std::int64_t> shape) const;
  /// Where messages say that a tensor is: its file, or the folder when there is none of that name.
  std::string place_of(std::string_view name) const;
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
  void open(const std::filesystem::path& file);
  void open_index(const std::filesystem::path& index);

  std::filesystem::path folder_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, Place, std::less<>> places_;
};

}  // namespace snug
