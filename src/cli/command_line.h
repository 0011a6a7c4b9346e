#pragma once
// `snug VERB [config.yaml] [key=value ...] [--json]`, taken apart.

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/console.h"
#include "core/settings_load.h"

namespace snug {

/// What a verb is given.
struct Command {
  std::string verb;
  std::vector<std::string> words;  // `step` of `bench step`, the topic of `help`
  bool json = false;
  Settings settings;
};

/// A verb of the command line. `run` returns the exit status, or throws.
struct Verb {
  std::string_view name;
  std::string_view usage;                    // what follows the name
  std::string_view sentence;                 // what it does
  std::vector<Group> groups;                 // settings that its help shows; empty: it takes none
  std::vector<std::string_view> words = {};  // what it may be given besides settings
  int (*run)(const Command&, Console&) = nullptr;
};

/// The words of the command line behind `snug`.
struct CommandLine {
  std::string verb;  // empty: none
  std::vector<std::string> words;
  std::vector<Assignment> assignments;  // the config file's, then the command line's
  bool json = false;
  bool help = false;  // --help, -h
  bool version = false;
};

/// Takes the words apart: a word that ends in .yaml, .yml or .json is the config file, which is
/// read; `key=value`, `--key=value`, `--key value` and, for keys that are true or false, `--key`
/// are settings; --json, --help, -h and --version are themselves; the rest must be words of the
/// verb. UserError for anything else.
CommandLine parse_command_line(std::span<const std::string> arguments, std::span<const Verb> verbs);

/// The verb of that name; UserError with the nearest otherwise.
const Verb& find_verb(std::string_view name, std::span<const Verb> verbs);

}  // namespace snug
