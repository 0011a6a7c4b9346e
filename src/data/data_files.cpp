#include "data/data_files.h"

#include <glob.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "data/byte_source.h"
#include "io/model_files.h"
#include "io/near_path.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kReadBytes = 1 << 18;
constexpr std::size_t kLargestRow = std::size_t{256} << 20;

bool is_packed(const fs::path& file) {
  return file.extension() == ".gz" || file.extension() == ".zst";
}

std::optional<FileKind> known_kind(const fs::path& file) {
  const fs::path name = is_packed(file) ? file.stem() : file;
  const std::string extension = name.extension().string();
  if (extension == ".jsonl" || extension == ".ndjson") return FileKind::json_lines;
  if (extension == ".json") return FileKind::json;
  if (extension == ".csv") return FileKind::csv;
  if (extension == ".txt") return FileKind::text;
  return std::nullopt;
}

/// The bytes of a file in order, one at a time or up to a byte.
class Bytes {
 public:
  explicit Bytes(const std::string& file)
      : file_(file), source_(open_bytes(file)), buffer_(kReadBytes) {
    if (refill() && view_.starts_with("\xEF\xBB\xBF")) view_.remove_prefix(3);
  }

  /// -1 at the end.
  int peek() { return view_.empty() && !refill() ? -1 : static_cast<unsigned char>(view_.front()); }
  void skip() { view_.remove_prefix(1); }

  /// Appends what stands before the first of `stops`, or before the end.
  void take_until(std::string_view stops, std::string& to) {
    while (peek() >= 0) {
      const std::size_t count = std::min(view_.find_first_of(stops), view_.size());
      if (to.size() + count > kLargestRow) {
        user_error("{}: a row is larger than 256 MiB. Cut it into several.", file_);
      }
      to.append(view_.substr(0, count));
      view_.remove_prefix(count);
      if (!view_.empty()) return;
    }
  }

  const std::string& file() const { return file_; }

 private:
  bool refill() {
    view_ = {buffer_.data(), source_->read(buffer_)};
    return !view_.empty();
  }

  std::string file_;
  std::unique_ptr<ByteSource> source_;
  std::vector<char> buffer_;
  std::string_view view_;
};

using Each = std::function<void(const RawRow&)>;

void read_lines(Bytes& bytes, const Each& row) {
  std::string line;
  for (std::int64_t number = 1; bytes.peek() >= 0; ++number) {
    line.clear();
    bytes.take_until("\n", line);
    if (bytes.peek() >= 0) bytes.skip();
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    row({FileKind::json_lines, line, fmt::format("{}:{}", bytes.file(), number)});
  }
}

/// JSON values one behind the other, cut where their brackets close.
class JsonValues {
 public:
  explicit JsonValues(Bytes& bytes) : bytes_(bytes) {}

  int skip_space() {
    while (bytes_.peek() == ' ' || bytes_.peek() == '\t' || bytes_.peek() == '\r' ||
           bytes_.peek() == '\n') {
      if (bytes_.peek() == '\n') ++line_;
      bytes_.skip();
    }
    return bytes_.peek();
  }

  /// Takes one value whose text is then checked by who reads it. `ends` are the bytes that end a
  /// value outside of brackets.
  void take(std::string_view ends, std::string& value) {
    value.clear();
    const std::string stops = "\"\\[]{}\n" + std::string(ends);
    int depth = 0;
    bool in_string = false;
    while (true) {
      bytes_.take_until(stops, value);
      const int byte = bytes_.peek();
      if (byte < 0) return;
      const char letter = static_cast<char>(byte);
      if (depth == 0 && !in_string && ends.find(letter) != std::string_view::npos) return;
      value.push_back(letter);
      bytes_.skip();
      if (letter == '\n') ++line_;
      if (in_string) {
        if (letter == '\\' && bytes_.peek() >= 0) {
          value.push_back(static_cast<char>(bytes_.peek()));
          bytes_.skip();
        }
        in_string = letter != '"';
        if (!in_string && depth == 0) return;
      } else if (letter == '"') {
        in_string = true;
      } else if (letter == '{' || letter == '[') {
        ++depth;
      } else if ((letter == '}' || letter == ']') && --depth <= 0) {
        return;
      }
    }
  }

  std::int64_t line() const { return line_; }

 private:
  Bytes& bytes_;
  std::int64_t line_ = 1;
};

[[noreturn]] void broken_array(const Bytes& bytes, std::int64_t line, std::string_view reason) {
  user_error("{}:{}: not valid JSON: {}.", bytes.file(), line, reason);
}

void read_array(Bytes& bytes, JsonValues& values, const Each& row) {
  bytes.skip();
  std::string value;
  for (std::int64_t index = 0;; ++index) {
    if (values.skip_space() == ']' && index == 0) break;
    values.take(",]", value);
    row({FileKind::json, value, fmt::format("{}[{}]", bytes.file(), index)});
    const int behind = values.skip_space();
    if (behind == ']') break;
    if (behind != ',') {
      broken_array(bytes, values.line(), behind < 0 ? "the list does not end" : "',' expected");
    }
    bytes.skip();
  }
  bytes.skip();
  if (values.skip_space() >= 0) broken_array(bytes, values.line(), "text behind the list");
}

void read_json(Bytes& bytes, const Each& row) {
  JsonValues values(bytes);
  const int first = values.skip_space();
  if (first == '[') return read_array(bytes, values, row);
  if (first != '{') {
    user_error("{}: holds no list of rows and no objects one behind the other.", bytes.file());
  }
  std::string value;
  while (values.skip_space() >= 0) {
    const std::int64_t line = values.line();
    values.take("", value);
    row({FileKind::json, value, fmt::format("{}:{}", bytes.file(), line)});
  }
}

/// Records of RFC 4180: fields in quotes hold commas, line ends and doubled quotes.
class CsvRecords {
 public:
  explicit CsvRecords(Bytes& bytes) : bytes_(bytes) {}

  /// False at the end of the file.
  bool next(std::vector<std::string>& fields) {
    fields.clear();
    begin_ = line_;
    if (bytes_.peek() < 0) return false;
    while (true) {
      fields.push_back(field());
      const int behind = bytes_.peek();
      if (behind >= 0) bytes_.skip();
      if (behind == ',') continue;
      if (behind == '\n') ++line_;
      return true;
    }
  }
  std::int64_t line() const { return begin_; }

 private:
  std::string field() {
    std::string text;
    if (bytes_.peek() != '"') {
      bytes_.take_until(",\n", text);
      if (bytes_.peek() != ',' && text.ends_with('\r')) text.pop_back();
      return text;
    }
    while (true) {
      bytes_.skip();
      const std::size_t from = text.size();
      bytes_.take_until("\"", text);
      line_ += std::count(text.begin() + static_cast<std::ptrdiff_t>(from), text.end(), '\n');
      if (bytes_.peek() < 0) user_error("{}:{}: a quote is not closed.", bytes_.file(), begin_);
      bytes_.skip();
      if (bytes_.peek() != '"') break;
      text.push_back('"');
    }
    if (bytes_.peek() == '\r') bytes_.skip();
    if (bytes_.peek() >= 0 && bytes_.peek() != ',' && bytes_.peek() != '\n') {
      user_error("{}:{}: text behind a closing quote.", bytes_.file(), line_);
    }
    return text;
  }

  Bytes& bytes_;
  std::int64_t line_ = 1;
  std::int64_t begin_ = 1;
};

void read_csv(Bytes& bytes, const Each& row) {
  CsvRecords records(bytes);
  std::vector<std::string> names;
  records.next(names);
  std::vector<std::string> fields;
  while (records.next(fields)) {
    if (fields.size() == 1 && fields.front().empty()) continue;
    RawRow record{FileKind::csv, {}, fmt::format("{}:{}", bytes.file(), records.line())};
    if (fields.size() != names.size()) {
      record.error = fmt::format("{}: {} fields, the first line names {}.", record.place,
                                 fields.size(), names.size());
      row(record);
      continue;
    }
    auto object = nlohmann::ordered_json::object();
    for (std::size_t i = 0; i < names.size(); ++i) object[names[i]] = fields[i];
    std::string text;
    try {
      text = object.dump();
    } catch (const nlohmann::json::exception&) {
      record.error = fmt::format("{}: is not UTF-8.", record.place);
    }
    record.text = text;
    row(record);
  }
}

void read_whole(Bytes& bytes, const Each& row) {
  std::string text;
  bytes.take_until("", text);
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) return;
  row({FileKind::text, text, bytes.file()});
}

std::vector<std::string> expand_glob(const std::string& pattern) {
  glob_t found{};
  const int status = ::glob(pattern.c_str(), GLOB_TILDE, nullptr, &found);
  std::vector<std::string> files;
  if (status == 0) files.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  return files;
}

/// A folder's own data files, sorted; its .txt files only where there are no others.
std::vector<std::string> files_of_folder(const std::string& folder) {
  std::vector<std::string> rows;
  std::vector<std::string> texts;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const auto kind = entry.is_regular_file() ? known_kind(entry.path()) : std::nullopt;
    if (kind) (*kind == FileKind::text ? texts : rows).push_back(entry.path());
  }
  std::vector<std::string>& files = rows.empty() ? texts : rows;
  if (files.empty()) {
    user_error("{}: the folder holds no .jsonl, .json, .csv or .txt file.", folder);
  }
  std::sort(files.begin(), files.end());
  return files;
}

/// The training files of a data set in the Hugging Face cache: those with `train` in their path, or
/// all where none is of another split.
std::vector<std::string> files_of_snapshot(const fs::path& snapshot, const std::string& id) {
  std::vector<std::string> train;
  std::vector<std::string> others;
  for (const auto& entry : fs::recursive_directory_iterator(snapshot)) {
    const fs::path& path = entry.path();
    const bool parquet = path.extension() == ".parquet";
    if (!fs::is_regular_file(path) || (!parquet && !known_kind(path))) continue;
    if (parquet) kind_of_file(path);  // refuses it
    const std::string inside = path.lexically_relative(snapshot).string();
    if (inside == "dataset_infos.json") continue;
    (inside.find("train") != std::string::npos ? train : others).push_back(path);
  }
  std::sort(train.begin(), train.end());
  std::sort(others.begin(), others.end());
  if (!train.empty()) return train;
  if (others.empty()) user_error("{}: {} holds no data file.", id, snapshot.string());
  if (others.size() > 1) {
    user_error("{}: several files and none is named train; give the one that is meant:\n  {}", id,
               fmt::join(others, "\n  "));
  }
  return others;
}

/// The files of `org/name` in the Hugging Face cache; nothing where `name` is no such id.
std::vector<std::string> files_of_hub(const std::string& name) {
  const std::size_t slash = name.find('/');
  if (slash == 0 || slash == std::string::npos || name.find('/', slash + 1) != std::string::npos ||
      name.find_first_of("*?[~\\ ") != std::string::npos || name.starts_with('.') ||
      known_kind(name)) {
    return {};
  }
  const fs::path repository =
      hub_cache() / fmt::format("datasets--{}--{}", name.substr(0, slash), name.substr(slash + 1));
  std::string commit;
  if (fs::exists(repository / "refs" / "main")) {
    Bytes bytes((repository / "refs" / "main").string());
    bytes.take_until("\r\n ", commit);
  }
  const fs::path snapshot = repository / "snapshots" / commit;
  if (commit.empty() || !fs::is_directory(snapshot)) {
    const auto near = near_path(name);
    user_error(
        "{}: there is no such file or folder, and no data set of this name in {}.{}ownload it "
        "once: hf download --repo-type dataset {}",
        name, hub_cache().string(),
        near ? fmt::format(" Did you mean {}? Else d", near->string()) : " D", name);
  }
  return files_of_snapshot(snapshot, name);
}

}  // namespace

FileKind kind_of_file(const fs::path& file) {
  if (const auto kind = known_kind(file)) return *kind;
  const std::string name = file.string();
  if (file.extension() == ".parquet") {
    user_error(
        "{}: Parquet is not read. Convert it once: python3 -c \"import pandas; "
        "pandas.read_parquet('{}').to_json('{}.jsonl', orient='records', lines=True)\"",
        name, name, file.stem().string());
  }
  user_error(
      "{}: data is read from .jsonl, .json, .csv and .txt files, as they are or .gz or .zst.",
      name);
}

std::vector<std::string> find_data_files(const std::vector<std::string>& patterns) {
  std::vector<std::string> files;
  for (const std::string& pattern : patterns) {
    std::vector<std::string> found;
    if (fs::is_directory(pattern)) {
      found = files_of_folder(pattern);
    } else if (fs::exists(pattern)) {
      found.push_back(pattern);
    } else {
      found = expand_glob(pattern);
      if (found.empty()) found = files_of_hub(pattern);
      if (found.empty()) {
        const auto near = near_path(pattern);
        user_error("{}: there is no such file, folder or match.{}", pattern,
                   near ? fmt::format(" Did you mean {}?", near->string()) : "");
      }
    }
    for (const std::string& file : found) kind_of_file(file);
    files.insert(files.end(), found.begin(), found.end());
  }
  return files;
}

void read_raw_rows(const std::string& file, const std::function<void(const RawRow&)>& row) {
  const FileKind kind = kind_of_file(file);
  Bytes bytes(file);
  switch (kind) {
    case FileKind::json_lines:
      return read_lines(bytes, row);
    case FileKind::json:
      return read_json(bytes, row);
    case FileKind::csv:
      return read_csv(bytes, row);
    case FileKind::text:
      return read_whole(bytes, row);
  }
}

}  // namespace snug
