#pragma once
// The part of YAML that settings use: one flat map of scalars, lists and dictionaries.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error_list.h"

namespace snug {

/// A value as written, before its setting gives it a type.
struct RawValue {
  enum class Kind { null, scalar, list, map };
  Kind kind = Kind::scalar;
  std::string text;                                        // of a scalar
  std::vector<std::string> items;                          // of a list of scalars
  std::vector<std::pair<std::string, std::string>> pairs;  // of a map; inner maps as `outer.inner`
  bool nested = false;  // a list that holds lists or maps, which `items` give in flow form

  static RawValue scalar(std::string value) {
    return {Kind::scalar, std::move(value), {}, {}, false};
  }
  /// One line for messages, loadable as YAML.
  std::string print() const;
};

struct YamlEntry {
  std::string key;
  RawValue value;
  std::int64_t line = 0;  // from 1
};

/// The entries of a YAML (or JSON) text in order. `name` stands in the messages. What is wrong,
/// with name:line, goes to `errors`: malformed text, anything but one map at the top, a key given
/// twice.
std::vector<YamlEntry> parse_yaml(const std::string& text, const std::string& name,
                                  ErrorList& errors);

/// parse_yaml of a file of at most 1 MiB.
std::vector<YamlEntry> read_yaml(const std::string& path, ErrorList& errors);

/// One value in flow form: `[a, b]`, `{power: 2}`. UserError when malformed.
RawValue parse_yaml_value(const std::string& text, const std::string& name);

/// A string as a YAML scalar, quoted where a plain one would be read as something else.
std::string yaml_scalar(std::string_view text);

}  // namespace snug
