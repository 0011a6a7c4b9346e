#include "io/model_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <nlohmann/json.hpp>

#include "io/model_writer.h"
#include "io/temporary_folder.h"

namespace snug {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<TensorSpec> some_tensors() {
  return {{"model.embed_tokens.weight", DType::bf16, {10, 4}},
          {"model.norm.weight", DType::bf16, {4}},
          {"lm_head.weight", DType::bf16, {10, 4}}};
}

/// Every byte of a tensor is the length of its name.
void fill(const TensorSpec& tensor, ModelFolderWriter::Sink sink) {
  const std::vector<std::byte> bytes(static_cast<std::size_t>(byte_count(tensor)),
                                     static_cast<std::byte>(tensor.name.size()));
  sink(bytes);
}

class ModelFiles : public testing::Test {
 protected:
  /// Writes some_tensors() with shards of `shard_bytes` into the folder.
  void write_model(std::int64_t shard_bytes) const {
    const ModelFolderWriter writer(some_tensors(), {{"config.json", "{}"}}, {}, shard_bytes);
    writer.write(folder_.path(),
                 [](const TensorSpec& t, ModelFolderWriter::Sink s) { fill(t, s); });
    EXPECT_EQ(writer.total_bytes(), bytes_in_folder());
  }
  std::int64_t bytes_in_folder() const {
    std::int64_t total = 0;
    for (const auto& entry : fs::recursive_directory_iterator(folder_.path())) {
      if (entry.is_regular_file()) total += static_cast<std::int64_t>(entry.file_size());
    }
    return total;
  }
  std::string open_error() const {
    return user_error_of([&] { ModelWeights weights(folder_.path()); });
  }
  TemporaryFolder folder_;
};

TEST_F(ModelFiles, SingleAndShardedFoldersReadTheSame) {
  for (const std::int64_t shard_bytes : {std::int64_t{1000}, std::int64_t{90}, std::int64_t{1}}) {
    const TemporaryFolder folder;
    const ModelFolderWriter writer(some_tensors(), {}, {}, shard_bytes);
    writer.write(folder.path(), [](const TensorSpec& t, ModelFolderWriter::Sink s) { fill(t, s); });
    const ModelWeights weights(folder.path());
    EXPECT_EQ(weights.names().size(), some_tensors().size());
    EXPECT_EQ(weights.total_bytes(), 168);
    for (const TensorSpec& tensor : some_tensors()) {
      const TensorView& view = weights.require(tensor.name, tensor.shape);
      EXPECT_EQ(view.bytes.back(), static_cast<std::byte>(tensor.name.size()));
      weights.drop_pages(view);
    }
    EXPECT_EQ(weights.find("nothing"), nullptr);
  }
}

TEST_F(ModelFiles, ShardsKeepTheirOrderAndLimit) {
  const auto shards = split_into_shards(some_tensors(), 90);
  ASSERT_EQ(shards.size(), 2);
  EXPECT_EQ(shards[0].file, "model-00001-of-00002.safetensors");
  EXPECT_EQ(shards[0].tensors.size(), 2);
  EXPECT_EQ(shards[1].tensors[0].name, "lm_head.weight");
  EXPECT_EQ(split_into_shards(some_tensors(), 1).size(), 3);
  EXPECT_EQ(split_into_shards(some_tensors(), 168)[0].file, "model.safetensors");
  write_model(90);
  const auto index = nlohmann::json::parse(read_text(folder_ / "model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], 168);
  EXPECT_EQ(index["weight_map"]["lm_head.weight"], "model-00002-of-00002.safetensors");
}

TEST_F(ModelFiles, CopiesTheTokenizerAndKeepsGivenTexts) {
  const TemporaryFolder source;
  write_text(source / "tokenizer.json", "{\"model\":{}}");
  write_text(source / "generation_config.json", "{}");
  write_text(source / "README.md", "not copied");
  fs::create_directory(source / "additional_chat_templates");
  write_text(source / "additional_chat_templates/rag.jinja", "x");
  const ModelFolderWriter writer(some_tensors(), {{"config.json", "{}"}}, source.path());
  writer.write(folder_.path(), [](const TensorSpec& t, ModelFolderWriter::Sink s) { fill(t, s); });
  EXPECT_EQ(writer.total_bytes(), bytes_in_folder());
  EXPECT_EQ(read_text(folder_ / "tokenizer.json"), "{\"model\":{}}");
  EXPECT_EQ(read_text(folder_ / "additional_chat_templates/rag.jinja"), "x");
  EXPECT_TRUE(fs::exists(folder_ / "generation_config.json"));
  EXPECT_FALSE(fs::exists(folder_ / "README.md"));
}

TEST_F(ModelFiles, DamagedShardedFoldersAreRefused) {
  write_model(90);
  write_text(folder_ / "extra.txt", "ignored");
  write_text(folder_ / "consolidated.safetensors", "ignored, though it is no safetensors file");
  EXPECT_EQ(open_error(), "no error");
  fs::rename(folder_ / "model-00002-of-00002.safetensors", folder_ / "aside");
  EXPECT_THAT(open_error(), AllOf(HasSubstr("model-00002-of-00002.safetensors: missing"),
                                  HasSubstr("places 1 tensors in it")));
  fs::rename(folder_ / "aside", folder_ / "model-00002-of-00002.safetensors");
  const fs::path index = folder_ / "model.safetensors.index.json";
  const auto good = nlohmann::json::parse(read_text(index));
  const auto with = [&](const std::string& tensor, const nlohmann::json& file) {
    auto changed = good;
    changed["weight_map"][tensor] = file;
    write_text(index, changed.dump());
    return open_error();
  };
  // What the files hold counts, not what the index lists.
  EXPECT_EQ(with("lm_head.bias", "./model-00002-of-00002.safetensors"), "no error");
  write_text(index, R"({"weight_map": {"x": "model-00001-of-00002.safetensors",
                                       "y": "model-00002-of-00002.safetensors"}})");
  EXPECT_THAT(ModelWeights(folder_.path()).names(),
              ElementsAre("lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"));
  for (const char* outside : {"../secret.safetensors", "a/../../b.safetensors", "/b.safetensors"}) {
    EXPECT_THAT(with("a", outside), HasSubstr("in this folder"));
  }
  EXPECT_THAT(with("a", 7), HasSubstr("'a' is in 7"));
  write_text(index, "{}");
  EXPECT_THAT(open_error(), HasSubstr("no 'weight_map'"));
  write_text(index, "[]");
  EXPECT_THAT(open_error(), HasSubstr("no 'weight_map'"));
  write_text(index, "{\"weight_map\"");
  EXPECT_THAT(open_error(), HasSubstr("model.safetensors.index.json: not valid JSON"));
}

TEST_F(ModelFiles, WrongTensorsNameFileAndBothShapes) {
  write_model(1000);
  const ModelWeights weights(folder_.path());
  const std::array<std::int64_t, 2> other = {10, 5};
  EXPECT_THAT(user_error_of([&] { weights.require("lm_head.weight", other); }),
              HasSubstr("model.safetensors: 'lm_head.weight' has shape [10, 4]; config.json makes "
                        "it [10, 5]"));
  EXPECT_THAT(user_error_of([&] { weights.require("lm_head.weigth", other); }),
              AllOf(HasSubstr("'lm_head.weigth' is missing"),
                    HasSubstr("The nearest is 'lm_head.weight'")));
}

TEST_F(ModelFiles, FoldersWithoutSafetensorsSayWhatToDo) {
  EXPECT_THAT(open_error(), HasSubstr("no weights"));
  EXPECT_THAT(user_error_of([&] { ModelWeights weights(folder_ / "none"); }),
              HasSubstr("no such folder"));
  write_text(folder_ / "pytorch_model.bin", "pickle");
  EXPECT_THAT(open_error(),
              AllOf(HasSubstr("only pytorch_model.bin"), HasSubstr("save_pretrained")));
  write_text(folder_ / "consolidated.safetensors", "x");
  EXPECT_THAT(open_error(), HasSubstr("Mistral's own layout"));
  write_text(folder_ / "adapter_model.safetensors", "x");
  EXPECT_THAT(open_error(), HasSubstr("an adapter, not a model"));
}

TEST_F(ModelFiles, HubIdsResolveInTheLocalCache) {
  const std::string commit = "0123456789abcdef0123456789abcdef01234567";
  const fs::path repository = folder_ / "models--meta-llama--Llama-3.1-8B";
  const fs::path snapshot = repository / "snapshots" / commit;
  const auto find = [&](const std::string& name) {
    return find_model_folder(name, folder_.path());
  };
  const auto error_of = [&](const std::string& name) { return user_error_of([&] { find(name); }); };
  EXPECT_EQ(error_of("meta-llama/Llama-3.1-8B"),
            "'meta-llama/Llama-3.1-8B' is not on this machine; snug downloads nothing. Run: hf "
            "download meta-llama/Llama-3.1-8B");
  fs::create_directories(repository / "refs");
  fs::create_directories(repository / "blobs");
  fs::create_directories(snapshot);
  write_text(repository / "refs" / "main", commit);
  EXPECT_THAT(error_of("meta-llama/Llama-3.1-8B"), HasSubstr("only partly on this machine"));
  write_text(repository / "blobs" / "abc", "{\"a\": 1}");
  fs::create_symlink("../../blobs/abc", snapshot / "config.json");
  EXPECT_EQ(find("meta-llama/Llama-3.1-8B"), snapshot);
  EXPECT_EQ(read_config_text(snapshot), "{\"a\": 1}");
  write_text(repository / "refs" / "main", "../../../../etc");
  EXPECT_THAT(error_of("meta-llama/Llama-3.1-8B"), HasSubstr("only partly"));
  EXPECT_EQ(find(folder_.path().string()), folder_.path());
  EXPECT_THAT(error_of("./none"), HasSubstr("no such folder"));
  EXPECT_THAT(error_of("a/b/c"), HasSubstr("no such folder"));
  write_text(folder_ / "config.json", "{}");
  EXPECT_THAT(error_of((folder_ / "config.json").string()),
              HasSubstr("expected the model's folder"));
  EXPECT_THAT(user_error_of([&] { read_config_text(snapshot.parent_path()); }),
              HasSubstr("no config.json"));
}

}  // namespace
}  // namespace snug
