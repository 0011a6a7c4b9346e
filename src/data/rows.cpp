#include "data/rows.h"

#include <glob.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.h"
#include "core/json.h"
#include "io/near_path.h"

namespace snug {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

bool is_data_file(const fs::path& path) {
  return path.extension() == ".jsonl" || path.extension() == ".json";
}

std::vector<std::string> expand_glob(const std::string& pattern) {
  glob_t found{};
  const int status = ::glob(pattern.c_str(), GLOB_TILDE, nullptr, &found);
  std::vector<std::string> files;
  if (status == 0) files.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  return files;
}

const char* type_word(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::boolean:
      return "true or false";
    case Json::value_t::string:
      return "text";
    case Json::value_t::array:
      return "a list";
    case Json::value_t::object:
      return "an object";
    default:
      return "a number";
  }
}

std::string text_of(const Json& object, const char* key, const std::string& place) {
  const Json& value = object.at(key);
  if (!value.is_string()) {
    user_error("{}: '{}' is {}, expected text.", place, key, type_word(value));
  }
  return value.get<std::string>();
}

std::vector<std::int32_t> integers_of(const Json& object, const char* key,
                                      const std::string& place) {
  const Json& value = object.at(key);
  if (!value.is_array()) {
    user_error("{}: '{}' is {}, expected a list of integers.", place, key, type_word(value));
  }
  std::vector<std::int32_t> result;
  result.reserve(value.size());
  for (const Json& item : value) {
    const bool fits = item.is_number_integer() && item.get<double>() >= -2147483648.0 &&
                      item.get<double>() <= 2147483647.0;
    if (!fits) {
      user_error("{}: '{}' holds {} at position {}, expected a 32-bit integer.", place, key,
                 item.dump(), result.size());
    }
    result.push_back(item.get<std::int32_t>());
  }
  return result;
}

TokenRow token_row(const Json& object, const std::string& place) {
  TokenRow row{integers_of(object, "input_ids", place), {}};
  row.labels = object.contains("labels") ? integers_of(object, "labels", place) : row.ids;
  if (row.labels.size() != row.ids.size()) {
    user_error("{}: 'labels' has {} entries, 'input_ids' {}; they must be as many.", place,
               row.labels.size(), row.ids.size());
  }
  for (std::size_t i = 0; i < row.ids.size(); ++i) {
    if (row.labels[i] != -100 && row.labels[i] != row.ids[i]) {
      user_error("{}: 'labels'[{}] is {}, expected input_ids[{}] = {} or -100.", place, i,
                 row.labels[i], i, row.ids[i]);
    }
  }
  return row;
}

DataRow parse_row(const Json& object, std::string place) {
  if (!object.is_object())
    user_error("{}: the row is {}, expected an object.", place, type_word(object));
  DataRow row;
  if (object.contains("input_ids")) {
    row.content = token_row(object, place);
  } else if (object.contains("prompt") && object.contains("completion")) {
    row.content =
        CompletionRow{text_of(object, "prompt", place), text_of(object, "completion", place)};
  } else if (object.contains("text")) {
    row.content = TextRow{text_of(object, "text", place)};
  } else {
    std::string keys;
    for (const auto& item : object.items()) keys += (keys.empty() ? "" : ", ") + item.key();
    user_error(
        "{}: no known layout in the keys ({}). A row has 'text', or 'prompt' and "
        "'completion', or 'input_ids' (and 'labels').",
        place, keys);
  }
  row.place = std::move(place);
  return row;
}

void read_lines(const std::string& file, const std::function<void(DataRow&&)>& row) {
  std::ifstream in(file, std::ios::binary);
  if (!in) user_error("{}: cannot be opened for reading.", file);
  std::string line;
  for (std::int64_t number = 1; std::getline(in, line); ++number) {
    if (number == 1 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    std::string place = fmt::format("{}:{}", file, number);
    const Json object = parse_json(line, place);
    row(parse_row(object, std::move(place)));
  }
  if (in.bad()) user_error("{}: reading failed.", file);
}

void read_array(const std::string& file, const std::function<void(DataRow&&)>& row) {
  std::ifstream in(file, std::ios::binary);
  if (!in) user_error("{}: cannot be opened for reading.", file);
  std::stringstream text;
  text << in.rdbuf();
  const Json rows = parse_json(text.str(), file);
  if (!rows.is_array()) {
    user_error("{}: holds {}, expected a list of rows (or name it .jsonl).", file, type_word(rows));
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    row(parse_row(rows[i], fmt::format("{}[{}]", file, i)));
  }
}

}  // namespace

std::vector<std::string> find_data_files(const std::vector<std::string>& patterns) {
  std::vector<std::string> files;
  for (const std::string& pattern : patterns) {
    std::vector<std::string> found;
    if (fs::is_directory(pattern)) {
      for (const auto& entry : fs::directory_iterator(pattern)) {
        if (entry.is_regular_file() && is_data_file(entry.path())) found.push_back(entry.path());
      }
      if (found.empty()) user_error("{}: the folder holds no .jsonl or .json file.", pattern);
      std::sort(found.begin(), found.end());
    } else if (fs::exists(pattern)) {
      if (!is_data_file(pattern)) {
        user_error("{}: data is read from .jsonl and .json files.", pattern);
      }
      found.push_back(pattern);
    } else {
      found = expand_glob(pattern);
      if (found.empty()) {
        const auto near = near_path(pattern);
        user_error("{}: there is no such file, folder or match.{}", pattern,
                   near ? fmt::format(" Did you mean {}?", near->string()) : "");
      }
    }
    files.insert(files.end(), found.begin(), found.end());
  }
  return files;
}

void read_rows(const std::vector<std::string>& files, const std::function<void(DataRow&&)>& row) {
  for (const std::string& file : files) {
    if (fs::path(file).extension() == ".jsonl") {
      read_lines(file, row);
    } else {
      read_array(file, row);
    }
  }
}

}  // namespace snug
