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
/// value is a map. UserError with file:line.
std::vector<Assignment> read_config(const std::string& path);
std::vector<Assignment> parse_config(const std::string& text, const std::string& name);

/// An assignment of the command line.
Assignment from_command_line(std::string key, std::string value);

/// Applies the assignments in order, later ones over earlier ones, and the defaults of all other
/// keys. UserError for an unknown key, a value of the wrong type or out of range, a value that is
/// not in this version, and for two spellings of one key with different values at the same level
/// (file or command line).
Settings make_settings(std::span<const Assignment> assignments);

/// Sets every key that was not set to the default that holds for these settings.
void apply_defaults(Settings& settings);

/// make_settings of nothing.
Settings default_settings();

/// The configuration of these groups as YAML that reads back as the same settings. `comments` are
/// added behind the values of their keys: what became of an `auto`.
std::string effective_yaml(const Settings& settings, std::span<const Group> groups = run_groups(),
                           const std::map<std::string, std::string>& comments = {});

/// One shell line that repeats the run: `snug VERB key=value ...` with every key that was set.
std::string repro_line(std::string_view verb, const Settings& settings);

/// UserError while `key` has its default: "train needs model_name_or_path (short: model): ...".
void require_setting(const Settings& settings, std::string_view key, std::string_view verb);

}  // namespace snug
