#include "data/data_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/error.h"

namespace snug {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

std::string gzip(const std::string& text) {
  std::string packed(text.size() + 256, '\0');
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string input = text;
  stream.next_in = reinterpret_cast<Bytef*>(input.data());
  stream.avail_in = static_cast<uInt>(input.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

std::string zstd(const std::string& text) {
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 3));
  return packed;
}

class DataFiles : public testing::Test {
 protected:
  void SetUp() override { fs::create_directories(folder_); }
  void TearDown() override { fs::remove_all(folder_); }
  std::string write(const std::string& name, const std::string& bytes) {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
    return (folder_ / name).string();
  }
  static std::vector<std::string> texts(const std::string& file) {
    std::vector<std::string> rows;
    read_raw_rows(file, [&](const RawRow& row) { rows.emplace_back(row.text); });
    return rows;
  }
  static std::string error_of(const std::string& file) {
    try {
      texts(file);
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  }
  fs::path folder_ = fs::path(testing::TempDir()) / fmt::format("snug_data_files_{}", ::getpid());
};

TEST_F(DataFiles, PackedFilesOfSeveralParts) {
  std::string many;  // more than one buffer
  for (int i = 0; i < 20000; ++i) many += "{\"text\": \"row " + std::to_string(i) + "\"}\n";
  const auto gz = texts(write("a.jsonl.gz", gzip("{\"a\": 1}\n{\"b\"") + gzip(": 2}\n" + many)));
  ASSERT_EQ(gz.size(), 20002U);
  EXPECT_EQ(gz[1], "{\"b\": 2}");
  EXPECT_EQ(gz.back(), "{\"text\": \"row 19999\"}");
  const auto zst = texts(write("a.jsonl.zst", zstd(many) + zstd("{\"z\": 1}")));
  ASSERT_EQ(zst.size(), 20001U);
  EXPECT_EQ(zst.back(), "{\"z\": 1}");
}

TEST_F(DataFiles, PackedFilesThatAreCutOrNone) {
  const std::string gz = gzip(std::string(100000, 'x') + "\n");
  EXPECT_THAT(error_of(write("cut.jsonl.gz", gz.substr(0, gz.size() - 9))), HasSubstr("too early"));
  EXPECT_THAT(error_of(write("no.jsonl.gz", "{\"text\": \"plain\"}\n")), HasSubstr("no.jsonl.gz"));
  const std::string zst = zstd(std::string(100000, 'x') + "\n");
  EXPECT_THAT(error_of(write("cut.jsonl.zst", zst.substr(0, zst.size() - 3))),
              HasSubstr("too early"));
  EXPECT_THAT(error_of(write("no.jsonl.zst", "plain text")), HasSubstr("not a whole zstd file"));
  EXPECT_THAT(error_of(write("empty.jsonl.gz", "")), HasSubstr("too early"));
}

TEST_F(DataFiles, DataSetsOfTheHubsCache) {
  setenv("HF_HUB_CACHE", folder_.c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
  const auto message = [](const std::string& name) {
    try {
      find_data_files({name});
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(message("org/rows"), HasSubstr("hf download --repo-type dataset org/rows"));
  write("datasets--org--rows/refs/main", "abc");
  const std::string base = "datasets--org--rows/snapshots/abc/";
  const std::string test = write(base + "data/test.jsonl", "");
  EXPECT_THAT(find_data_files({"org/rows"}), ElementsAre(test));
  const std::string train = write(base + "data/train-0.jsonl", "");
  EXPECT_THAT(find_data_files({"org/rows"}), ElementsAre(train));
  write(base + "data/train.parquet", "PAR1");
  EXPECT_THAT(message("org/rows"), HasSubstr("read_parquet"));
  unsetenv("HF_HUB_CACHE");  // NOLINT(concurrency-mt-unsafe)
}

}  // namespace
}  // namespace snug
