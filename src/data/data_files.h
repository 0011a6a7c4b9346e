#pragma once
// Data files: where they are, and their rows as raw texts.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace snug {

/// How a file's rows are written, by its name without .gz or .zst: .jsonl, .json, .csv, .txt.
enum class FileKind { json_lines, json, csv, text };

/// The kind a file's name says. UserError for others, with what converts them where something does.
FileKind kind_of_file(const std::filesystem::path& file);

/// The data files a setting names: files, folders (their data files), globs and ids of data sets in
/// the local Hugging Face cache, in the order given, sorted inside a folder or glob. UserError for
/// what does not exist, with the line that downloads a data set.
std::vector<std::string> find_data_files(const std::vector<std::string>& patterns);

/// A row as it stands in a file, and where: `data.jsonl:1042`, `data.json[7]`.
struct RawRow {
  FileKind kind = FileKind::json_lines;
  std::string_view
      text;  ///< JSON; of a .csv file a JSON object of its texts; of a .txt file the text
  std::string place;
  std::string error = {};  ///< not empty: why it is no row; begins with the place
};

/// Calls `row` for every row of a file, in order: lines that are not blank; elements of a JSON
/// array or objects one behind the other in .json; records of .csv, whose first line names the
/// columns; a whole .txt file. Unpacks .gz and .zst. Holds one row at a time. UserError naming file
/// and line for a file that cannot be read or unpacked and a row above 256 MiB.
void read_raw_rows(const std::string& file, const std::function<void(const RawRow&)>& row);

}  // namespace snug
