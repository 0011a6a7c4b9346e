#pragma once
// A JSON value together with its file and its path inside it, so that every complaint names both.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace snug {

/// Borrows the JSON value. Every accessor throws UserError "FILE: 'PATH' ..." when the file does
/// not hold what is asked for.
class JsonView {
 public:
  JsonView(const nlohmann::json& value, std::string file, std::string path = "")
      : value_(&value), file_(std::move(file)), path_(std::move(path)) {}

  const nlohmann::json& raw() const { return *value_; }
  const std::string& file() const { return file_; }
  const std::string& path() const { return path_; }

  /// The member `key`; nothing when it is missing or null. The value must be an object.
  std::optional<JsonView> find(std::string_view key) const;
  /// The member `key`, which must be there and not null.
  JsonView at(std::string_view key) const;
  /// The elements of an array.
  std::vector<JsonView> elements() const;
  const nlohmann::json& object() const;

  const std::string& text() const;
  bool boolean() const;
  /// A whole number from 0 to `highest`.
  int64_t whole(int64_t highest) const;

  /// Throws "FILE: 'PATH' MESSAGE".
  [[noreturn]] void fail(std::string_view message) const;

 private:
  [[noreturn]] void wrong_type(std::string_view expected) const;

  const nlohmann::json* value_;
  std::string file_;
  std::string path_;
};

/// What a JSON value is, in words: "a number", "text", "null".
std::string_view kind_of(const nlohmann::json& value);

}  // namespace snug
