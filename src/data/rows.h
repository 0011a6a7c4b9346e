#pragma once
// Rows of training data as they stand in the files.

#include <cstdint>
#include <functional>
#include <string>
#include <variant>
#include <vector>

namespace snug {

struct TextRow {
  std::string text;
};
struct CompletionRow {
  std::string prompt;
  std::string completion;
};
/// labels are not shifted: labels[i] is ids[i] where it is trained, else -100.
struct TokenRow {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> labels;
};

/// A row and where it stands, `data.jsonl:1042`.
struct DataRow {
  std::variant<TextRow, CompletionRow, TokenRow> content;
  std::string place;
};

/// The data files a setting names: files, folders (their .jsonl and .json files) and globs, in the
/// order given, sorted inside a folder or glob. UserError for what does not exist.
std::vector<std::string> find_data_files(const std::vector<std::string>& patterns);

/// Reads .jsonl (one object a line) and .json (an array of objects) and calls `row` for each, in
/// order. UserError naming file and line for malformed rows and unknown layouts.
void read_rows(const std::vector<std::string>& files, const std::function<void(DataRow&&)>& row);

}  // namespace snug
