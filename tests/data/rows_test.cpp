#include "data/rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "data/data_files.h"
#include "data/dataset.h"

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
  std::vector<DataRow> read(const std::string& file) const {
    std::vector<DataRow> rows;
    read_rows({file}, settings_, [&](DataRow&& row) { rows.push_back(std::move(row)); });
    return rows;
  }
  std::string error_of(const std::string& file) const {
    try {
      read(file);
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  }
  TokenRow tokens_of(const std::string& json) const {
    return std::get<TokenRow>(parse_row(json, "row", settings_).content);
  }
  std::string refusal_of(const std::string& json) const {
    try {
      parse_row(json, "row", settings_);
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  }
  DataSettings settings_;
};

using Ids = std::vector<std::int32_t>;

TEST_F(Rows, ReadsLayoutsWithTheirPlaces) {
  const std::string text =
      write("texts.jsonl", "\xEF\xBB\xBF{\"text\": \"hi\"}\n\n{\"text\": \"ho\"}\r\n");
  const auto rows = read(text);
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(std::get<TextRow>(rows[0].content).text, "hi");
  EXPECT_EQ(rows[1].place, text + ":3");
  const auto completions = read(write("pairs.jsonl", R"({"prompt": "a", "completion": "b"})"));
  EXPECT_EQ(std::get<CompletionRow>(completions.at(0).content).completion, "b");
  EXPECT_EQ(tokens_of(R"({"input_ids": [1, 2], "labels": [-100, 2]})").labels, (Ids{-100, 2}));
}

TEST_F(Rows, TheFirstRowsLayoutHolds) {
  const std::string file = write("mixed.jsonl",
                                 "{\"text\": \"a\"}\n{\"prompt\": \"a\", \"completion\": \"b\"}\n"
                                 "{\"text\": \"c\"}\n");
  EXPECT_THAT(error_of(file),
              HasSubstr("mixed.jsonl:2: a row of layout prompt and completion among "
                        "rows of layout text"));
  std::vector<std::string> bad;
  int good = 0;
  read_rows(
      {file}, settings_, [&](DataRow&&) { ++good; },
      [&](const std::string& reason) { bad.push_back(reason); });
  EXPECT_EQ(good, 2);
  EXPECT_EQ(bad.size(), 1U);
}

TEST_F(Rows, NullIsAsIfItWereNotThereAndOtherColumnsAreNotRead) {
  const auto rows =
      read(write("nulls.jsonl",
                 "{\"prompt\": null, \"completion\": null, \"text\": \"a\", \"score\": NaN}\n"
                 "{\"text\": \"b\", \"more\": {\"x\": [-Infinity, Infinity, \"\xff\"]}}\n"));
  EXPECT_EQ(rows.size(), 2U);
  EXPECT_EQ(tokens_of(R"({"input_ids": [3, 4], "labels": null})").labels, (Ids{3, 4}));
}

TEST_F(Rows, ANulByteIsNoEnd) {
  const std::string nul("\0", 1);
  EXPECT_THAT(error_of(write("nul1.jsonl", "{\"text\": \"a\"}" + nul)), HasSubstr("nul1.jsonl:1"));
  EXPECT_THAT(error_of(write("nul2.jsonl", "{\"text\": \"a\"}\n" + nul + nul)),
              HasSubstr("nul2.jsonl:2"));
  EXPECT_THAT(error_of(write("nul3.json", "[{\"text\": \"a\"}" + nul + "]")),
              HasSubstr("nul3.json"));
  EXPECT_THAT(error_of(write("nul4.jsonl", "{\"text\": \"a" + nul + "\"}")),
              HasSubstr("nul4.jsonl:1"));
  EXPECT_THAT(error_of(write("nul5.json", "[{\"text\": \"a\"}]" + nul)), HasSubstr("behind"));
}

TEST_F(Rows, JsonFilesHoldListsOrObjectsInLine) {
  const auto list = read(write("list.json", "[{\"text\": \"a]}\\\"\"},\n {\"text\": \"b\"}\n]\n"));
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(std::get<TextRow>(list[0].content).text, "a]}\"");
  EXPECT_THAT(list[1].place, HasSubstr("list.json[1]"));
  const auto lines = read(write("lines.json", "{\"text\": \"a\"}\n{\n\"text\": \"b\"}\n"));
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_THAT(lines[1].place, HasSubstr("lines.json:2"));
  EXPECT_THAT(error_of(write("open.json", "[{\"text\": \"a\"}")), HasSubstr("does not end"));
  EXPECT_TRUE(read(write("empty.json", "[]")).empty());
}

TEST_F(Rows, CsvAndTextFiles) {
  const auto csv = read(write("a.csv", "id,text\r\n1,\"two\nlines, \"\"quoted\"\"\"\n2,plain\n"));
  ASSERT_EQ(csv.size(), 2U);
  EXPECT_EQ(std::get<TextRow>(csv[0].content).text, "two\nlines, \"quoted\"");
  EXPECT_THAT(csv[1].place, HasSubstr("a.csv:4"));
  EXPECT_THAT(error_of(write("b.csv", "id,text\n1\n")), HasSubstr("b.csv:2: 1 fields"));
  const auto book = read(write("book.txt", "Once\nupon\n"));
  ASSERT_EQ(book.size(), 1U);
  EXPECT_TRUE(std::get<TextRow>(book[0].content).document);
  EXPECT_THAT(error_of(write("x.parquet", "PAR1")), HasSubstr("read_parquet"));
}

TEST_F(Rows, MasksOfTokensAreHonoured) {
  EXPECT_EQ(tokens_of(R"({"input_ids": [5, 6, 7], "completion_mask": [0, 1, 1]})").labels,
            (Ids{-100, 6, 7}));
  EXPECT_EQ(tokens_of(R"({"input_ids": [5, 6, 7], "completion_mask": [0, 1, 1],
                          "assistant_masks": [1, 0, 1], "labels": [5, 6, 7]})")
                .labels,
            (Ids{-100, -100, 7}));
  const TokenRow padded = tokens_of(
      R"({"input_ids": [0, 5, 6, 0], "attention_mask": [0, 1, 1, 0], "position_ids": [1, 0, 1, 1]})");
  EXPECT_EQ(padded.ids, (Ids{5, 6}));
  EXPECT_EQ(padded.documents, (Ids{0}));
  EXPECT_EQ(tokens_of(R"({"input_ids": [5, 6, 7], "position_ids": [0, 1, 0]})").documents,
            (Ids{0, 2}));
  EXPECT_EQ(tokens_of(R"({"input_ids": [5, 6, 7], "seq_lengths": [1, 2]})").documents, (Ids{0, 1}));
  settings_.train_on = TrainOn::all;
  EXPECT_EQ(tokens_of(R"({"input_ids": [5, 6], "completion_mask": [0, 1]})").labels, (Ids{5, 6}));
  settings_.train_on = TrainOn::last;
  EXPECT_EQ(tokens_of(R"({"input_ids": [5, 6, 7, 8], "labels": [5, -100, 7, 8]})").labels,
            (Ids{-100, -100, 7, 8}));
}

TEST_F(Rows, MasksThatCannotBeHonouredAreRefusedByName) {
  EXPECT_THAT(refusal_of(R"({"input_ids": [5, 6, 7], "attention_mask": [1, 0, 1]})"),
              HasSubstr("'attention_mask' leaves out token 1"));
  EXPECT_THAT(refusal_of(R"({"input_ids": [5, 6], "attention_mask": [1, 2]})"),
              HasSubstr("'attention_mask' holds 2"));
  EXPECT_THAT(refusal_of(R"({"input_ids": [5, 6], "labels": [5, 6], "attention_mask": [0, 1]})"),
              HasSubstr("'labels' trains token 0"));
  EXPECT_THAT(refusal_of(R"({"input_ids": [5, 6], "position_ids": [0, 2]})"),
              HasSubstr("'position_ids'[1] is 2"));
  EXPECT_THAT(refusal_of(R"({"input_ids": [5, 6], "seq_lengths": [1]})"), HasSubstr("sums to 1"));
  EXPECT_THAT(refusal_of(R"({"input_ids": [5, 6], "completion_mask": [1]})"),
              HasSubstr("must be as many"));
  EXPECT_THAT(refusal_of(R"({"input_ids": [5, 6], "token_type_ids": [0, 1]})"),
              HasSubstr("token_type_ids"));
}

TEST_F(Rows, ConversationsBecomeMessages) {
  const auto chat = [&](const std::string& json) {
    return std::get<ChatRow>(parse_row(json, "row", settings_).content);
  };
  const ChatRow shared = chat(R"({"conversations": [{"from": "human", "value": "a\u00e9"},
      {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1.0}}"},
      {"from": "observation", "value": "3"}, {"from": "gpt", "value": "b"}], "system": "s"})");
  ASSERT_EQ(shared.messages.size(), 5U);
  EXPECT_EQ(shared.messages[0].json, R"({"role": "system", "content": "s"})");
  EXPECT_EQ(shared.messages[1].json, R"({"role": "user", "content": "a\u00e9"})");
  EXPECT_EQ(shared.messages[2].json,
            R"({"role": "assistant", "content": "", "tool_calls": [{"type": "function", )"
            R"("function": {"name": "f", "arguments": {"x": 1.0}}}]})");
  EXPECT_TRUE(shared.messages[2].assistant);
  EXPECT_EQ(shared.messages[3].json, R"({"role": "tool", "content": "3"})");
  const ChatRow weighted = chat(R"({"messages": [{"role": "user", "content": "a", "name": null},
      {"role": "assistant", "content": "b", "weight": 0}], "tools": "[]"})");
  EXPECT_EQ(weighted.messages[1].weighted, std::optional(false));
  EXPECT_EQ(weighted.messages[0].json, R"({"role": "user", "content": "a"})");
  EXPECT_EQ(weighted.tools, "");
  const ChatRow alpaca =
      chat(R"({"instruction": "i", "input": "j", "output": "o", "history": [["q", "r"]]})");
  EXPECT_EQ(alpaca.messages[2].json, R"({"role": "user", "content": "i\nj"})");
  EXPECT_TRUE(alpaca.messages[1].assistant);
  settings_.columns.names = {{"messages", "dialog"}, {"role", "who"}, {"content", "says"}};
  EXPECT_EQ(chat(R"({"dialog": [{"who": "bot", "says": "x"}]})").messages[0].json,
            R"({"role": "assistant", "content": "x"})");
}

TEST_F(Rows, ConversationsRefuseWhatWouldBeLost) {
  EXPECT_THAT(refusal_of(R"({"messages": [{"role": "narrator", "content": "a"}]})"),
              HasSubstr("the role 'narrator' is not known"));
  EXPECT_THAT(refusal_of(R"({"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]})"),
              HasSubstr("'weight' is 0.5"));
  EXPECT_THAT(refusal_of(R"({"messages": [{"role": "user", "content": [{"type": "image"}]}]})"),
              HasSubstr("type 'image'"));
  EXPECT_THAT(refusal_of(R"({"text": "a", "images": ["x.png"]})"), HasSubstr("'images' is given"));
  EXPECT_THAT(refusal_of(R"({"messages": []})"), HasSubstr("is empty"));
  EXPECT_THAT(refusal_of("{\"messages\": [{\"role\": \"user\", \"content\": \"a\", \"\xff\": 1}]}"),
              HasSubstr("not valid JSON"));
}

TEST_F(Rows, PreferenceRowsAreReadAndNotTrained) {
  const DataRow row =
      parse_row(R"({"prompt": "p", "chosen": "a", "rejected": "b"})", "row", settings_);
  EXPECT_EQ(row.layout, RowLayout::preference);
  EXPECT_EQ(
      parse_row(R"({"prompt": "p", "completion": "a", "label": true})", "r", settings_).layout,
      RowLayout::unpaired);
  EXPECT_THROW(encode_row(row, {}), UserError);
}

TEST_F(Rows, NamesFileLineAndWhatWasFound) {
  EXPECT_THAT(error_of(write("bad1.jsonl", "{\"prompt\": \"a\", \"completion\": 3}")),
              HasSubstr("bad1.jsonl:1: 'completion' is a number, expected text."));
  EXPECT_THAT(error_of(write("bad2.jsonl", "{\"text\": \"a\"}\n{\"text\"")),
              HasSubstr("bad2.jsonl:2"));
  EXPECT_THAT(error_of(write("bad3.jsonl", "{\"words\": []}")), HasSubstr("(words)"));
  EXPECT_THAT(error_of(write("bad4.jsonl", "{\"input_ids\": [1, 4294967296]}")),
              HasSubstr("position 1"));
  EXPECT_THAT(error_of(write("bad5.jsonl", "{\"input_ids\": [1, 2], \"labels\": [1]}")),
              HasSubstr("must be as many"));
  EXPECT_THAT(error_of(write("bad6.json", "3")), HasSubstr("holds no list of rows"));
  EXPECT_THAT(error_of(write("bad7.jsonl", "{\"text\": \"a\", \"text\": \"b\"}")),
              HasSubstr("occurs twice"));
}

TEST_F(Rows, FindsFilesInFoldersAndGlobs) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(testing::TempDir()) / "rows_folder";
  fs::create_directories(folder);
  for (const char* name : {"b.jsonl", "a.json", "note.md"}) std::ofstream(folder / name) << "x";
  EXPECT_THAT(find_data_files({folder.string()}),
              testing::ElementsAre((folder / "a.json").string(), (folder / "b.jsonl").string()));
  EXPECT_THAT(find_data_files({(folder / "*.jsonl").string()}),
              testing::ElementsAre((folder / "b.jsonl").string()));
  EXPECT_THROW(find_data_files({(folder / "none*.jsonl").string()}), UserError);
  EXPECT_THROW(find_data_files({(folder / "note.md").string()}), UserError);
}

}  // namespace
}  // namespace snug
