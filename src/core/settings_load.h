#pragma once
// From config.yaml and the command line to Settings, and back.

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/settings.h"
#include "core/settings_table.h"
#include "core/yaml.h"

namespace snug {

/// One `key: value` as somebody wrote it.
struct Assignment {
  std::string key;
  RawValue value;
  Origin origin;
};

/// The assignments of a config file. Maps are refused with the flat key named, but for keys whose
/// value is a map. What is wrong goes to `errors`, with file:line; without `errors`: UserError.
std::vector<Assignment> read_config(const std::string& path, ErrorList& errors);
std::vector<Assignment> read_config(const std::string& path);
std::vector<Assignment> parse_config(const std::string& text, const std::string& name);

/// An assignment of the command line.
Assignment from_command_line(std::string key, std::string value);

/// Applies the assignments in order, later ones over earlier ones, and the defaults of all other
/// keys. null and, where it is no value, the text null take an assignment back. To `errors`, or
/// UserError: an unknown key, a value of the wrong type or out of range, a value that is not in
/// this version, and two spellings of one key with different values at the same level (file or
/// command line). A key with an error counts as set.
Settings make_settings(std::span<const Assignment> assignments, ErrorList& errors);
Settings make_settings(std::span<const Assignment> assignments);

/// The checks between keys, over the whole table: a key that was set and has no effect beside the
/// others gets a line in `notes`, or an entry in `errors` where its row is strict; batch keys that
/// contradict each other.
void check_settings(Settings& settings, ErrorList& errors);

/// Sets every key that was not set to the default that holds for these settings.
void apply_defaults(Settings& settings);

/// make_settings of nothing.
Settings default_settings();

/// The configuration of these groups as YAML that reads back as the same settings. `comments` are
/// added behind the values of their keys: what became of an `auto`.
std::string effective_yaml(const Settings& settings, std::span<const Group> groups = run_groups(),
                           const std::map<std::string, std::string>& comments = {});

/// One word of a POSIX shell, quoted where that is needed.
std::string shell_word(std::string_view word);

/// One shell line that repeats the run: `snug VERB key=value ...` with every key that was set.
std::string repro_line(std::string_view verb, const Settings& settings);

/// UserError while all of `keys` have their defaults: "train needs model_name_or_path (short:
/// model): ...".
void require_setting(const Settings& settings, std::span<const std::string_view> keys,
                     std::string_view verb);

/// `load_in_4bit=true or load_in_8bit=true`
std::string describe(const Need& need);

}  // namespace snug
