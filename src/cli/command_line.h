#pragma once
// `snug VERB [config.yaml] [key=value ...] [--json]`, taken apart.

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/console.h"
#include "core/error_list.h"
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
  std::vector<std::string_view> main = {};   // the keys its help shows; empty: all of its groups
  std::vector<std::vector<std::string_view>> required = {};  // of each, one must be given
  std::vector<std::string_view> paths = {};                  // keys whose files must be there
  bool adds_settings = false;  // makes its settings of those given, and checks them itself
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
  ErrorList errors;  // what is wrong with the words and the file, besides the values
};

/// Takes the words apart: a word that ends in .yaml, .yml or .json, or what follows --config, is
/// the config file, which is read; `key=value`, `--key=value`, `--key value` and, for keys that are
/// true or false, `--key` are settings; --json, --help, -h and --version are themselves; the rest
/// must be words of the verb. Anything else goes to `errors`; UserError for an unknown verb.
CommandLine parse_command_line(std::span<const std::string> arguments, std::span<const Verb> verbs);

/// The verb of that name; UserError with the nearest otherwise.
const Verb& find_verb(std::string_view name, std::span<const Verb> verbs);

}  // namespace snug
