// Reads files with snug and writes them again, for the parity suite to compare with the real
// packages. Exit status 1 with the message for a UserError.

#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "io/model_files.h"
#include "io/model_writer.h"
#include "io/safetensors.h"
#include "model/config.h"
#include "model/shapes.h"

namespace snug {
namespace {

TensorSpec spec_of(const TensorView& view) {
  if (!view.dtype) user_error("'{}' is {}.", view.name, view.type_name);
  return {view.name, *view.dtype, view.shape};
}

void copy_file(const std::string& from, const std::string& to) {
  const SafetensorsFile file(from);
  std::vector<TensorSpec> tensors;
  for (const TensorView& view : file.tensors()) tensors.push_back(spec_of(view));
  write_safetensors(
      to, tensors,
      [&](const TensorSpec& tensor, ModelFolderWriter::Sink sink) {
        sink(file.find(tensor.name)->bytes);
      },
      file.metadata());
}

void copy_folder(const std::string& from, const std::string& to, std::int64_t shard_bytes) {
  const ModelWeights weights(from);
  std::vector<TensorSpec> tensors;
  for (const std::string_view name : weights.names()) {
    tensors.push_back(spec_of(*weights.find(name)));
  }
  const ModelFolderWriter writer(tensors, {{"config.json", read_config_text(from)}}, from,
                                 shard_bytes);
  std::filesystem::create_directories(to);
  writer.write(to, [&](const TensorSpec& tensor, ModelFolderWriter::Sink sink) {
    const TensorView& view = weights.require(tensor.name, tensor.shape);
    sink(view.bytes);
    weights.drop_pages(view);
  });
}

ModelConfig config_of(const std::string& folder) {
  return parse_config(read_config_text(folder), folder + "/config.json");
}

void run(const std::vector<std::string>& words) {
  const auto is = [&](std::string_view command, std::size_t operands) {
    return words.size() == operands + 1 && words[0] == command;
  };
  if (is("copy", 2)) return copy_file(words[1], words[2]);
  if (is("copy-folder", 3)) return copy_folder(words[1], words[2], std::stoll(words[3]));
  if (is("config", 1)) return fmt::print("{}", write_config(config_of(words[1])));
  if (is("generation-config", 1)) {
    return fmt::print("{}", write_generation_config(config_of(words[1])));
  }
  if (is("hub-cache", 0)) return fmt::print("{}", hub_cache().string());
  if (is("shape", 1)) return fmt::print("{}", write_config(shape_config(words[1])));
  if (is("count", 1)) return fmt::print("{}", parameter_count(shape_config(words[1])));
  if (is("shapes", 0)) {
    for (const std::string_view name : shape_names()) fmt::print("{}\n", name);
    return;
  }
  user_error(
      "usage: copy IN OUT | copy-folder IN OUT SHARD_BYTES | config FOLDER | "
      "generation-config FOLDER | hub-cache | shape NAME | count NAME | shapes");
}

}  // namespace
}  // namespace snug

int main(int argc, char** argv) {
  try {
    snug::run({argv + 1, argv + argc});
    return 0;
  } catch (const snug::UserError& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
