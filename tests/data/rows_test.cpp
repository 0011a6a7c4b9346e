#include "data/rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/error.h"

namespace snug {
namespace {

using testing::HasSubstr;

class Rows : public testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& text) {
    const std::string path = testing::TempDir() + name;
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
  static std::string error_of(const std::string& file) {
    try {
      read_rows({file}, [](DataRow&&) {});
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  }
};

TEST_F(Rows, ReadsTheThreeLayoutsWithTheirPlaces) {
  const std::string file = write("three.jsonl",
                                 "{\"text\": \"hi\"}\n\n"
                                 "{\"prompt\": \"a\", \"completion\": \"b\"}\r\n"
                                 "{\"input_ids\": [1, 2], \"labels\": [-100, 2]}");
  std::vector<DataRow> rows;
  read_rows({file}, [&](DataRow&& row) { rows.push_back(std::move(row)); });
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(std::get<TextRow>(rows[0].content).text, "hi");
  EXPECT_EQ(std::get<CompletionRow>(rows[1].content).completion, "b");
  EXPECT_EQ(rows[1].place, file + ":3");
  EXPECT_EQ(std::get<TokenRow>(rows[2].content).labels, (std::vector<std::int32_t>{-100, 2}));
}

TEST_F(Rows, NamesFileLineAndWhatWasFound) {
  EXPECT_THAT(error_of(write("bad1.jsonl", "{\"prompt\": \"a\", \"completion\": 3}")),
              HasSubstr("bad1.jsonl:1: 'completion' is a number, expected text."));
  EXPECT_THAT(error_of(write("bad2.jsonl", "{\"text\": \"a\"}\n{\"text\"")),
              HasSubstr("bad2.jsonl:2"));
  EXPECT_THAT(error_of(write("bad3.jsonl", "{\"messages\": []}")), HasSubstr("messages"));
  EXPECT_THAT(error_of(write("bad4.jsonl", "{\"input_ids\": [1, 4294967296]}")),
              HasSubstr("position 1"));
  EXPECT_THAT(error_of(write("bad5.jsonl", "{\"input_ids\": [1, 2], \"labels\": [1]}")),
              HasSubstr("must be as many"));
  EXPECT_THAT(error_of(write("bad6.json", "{}")), HasSubstr("expected a list of rows"));
}

TEST_F(Rows, FindsFilesInFoldersAndGlobs) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(testing::TempDir()) / "rows_folder";
  fs::create_directories(folder);
  for (const char* name : {"b.jsonl", "a.json", "note.txt"}) std::ofstream(folder / name) << "x";
  EXPECT_THAT(find_data_files({folder.string()}),
              testing::ElementsAre((folder / "a.json").string(), (folder / "b.jsonl").string()));
  EXPECT_THAT(find_data_files({(folder / "*.jsonl").string()}),
              testing::ElementsAre((folder / "b.jsonl").string()));
  EXPECT_THROW(find_data_files({(folder / "none*.jsonl").string()}), UserError);
  EXPECT_THROW(find_data_files({(folder / "note.txt").string()}), UserError);
}

}  // namespace
}  // namespace snug
