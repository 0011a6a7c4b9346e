#include "cli/command_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/text.h"

namespace snug {
namespace {

constexpr std::string_view kConfigFile = "config";  // names the config file, and is no setting

bool is_config_path(std::string_view word) {
  return word.ends_with(".yaml") || word.ends_with(".yml") || word.ends_with(".json");
}

/// What a word that fits nowhere was meant to be, as ` Did you mean ...?`, or nothing.
std::string meant_by(const std::string& word) {
  std::error_code ignored;
  if (find_setting(word)) return fmt::format(" Did you mean {}=VALUE?", word);
  if (word.ends_with(".gguf") || std::filesystem::is_directory(word, ignored)) {
    return fmt::format(" Did you mean model={}?", word);
  }
  if (std::filesystem::exists(word, ignored)) return fmt::format(" Did you mean data={}?", word);
  return "";
}

/// Whether `--key` stands alone before `next`, meaning true: a key that is on or off, and no value
/// of it follows.
bool stands_alone(std::string_view key, const std::string* next) {
  const Found found = find_setting(key);
  if (!found || !found.row->field.is_switch) return false;
  Settings scratch;
  return next == nullptr || !found.row->field.read(scratch, RawValue::scalar(*next));
}

/// Reads the arguments one after the other into a CommandLine.
class Parser {
 public:
  explicit Parser(std::span<const std::string> arguments, std::span<const Verb> verbs)
      : rest_(arguments), verbs_(verbs) {}

  CommandLine parse() {
    while (!rest_.empty()) {
      const std::string& word = rest_.front();
      rest_ = rest_.subspan(1);
      if (line_.verb.empty() && !word.starts_with('-')) {
        verb_ = &find_verb(word, verbs_);
        line_.verb = word;
      } else {
        line_.errors.attempt([&] { take(word); });
      }
    }
    line_.assignments = std::move(from_file_);
    line_.assignments.insert(line_.assignments.end(), from_words_.begin(), from_words_.end());
    return std::move(line_);
  }

 private:
  void take(const std::string& word) {
    if (word == "--json") {
      line_.json = true;
    } else if (word == "--help" || word == "-h") {
      line_.help = true;
    } else if (word == "--version") {
      line_.version = true;
    } else if (verb_ != nullptr && verb_->groups.empty()) {
      line_.words.push_back(word);
    } else if (word.starts_with("--") && word.size() > 2) {
      take_option(word.substr(2));
    } else if (word.starts_with('-')) {
      user_error("command line: '{}' is no option. Settings are key=value or --key value.", word);
    } else if (const auto equals = word.find('='); equals != std::string::npos) {
      add(word.substr(0, equals), word.substr(equals + 1));
    } else if (is_config_path(word)) {
      take_config(word);
    } else {
      take_word(word);
    }
  }

  /// What followed `--`: key=value, key and the next argument, or a switch.
  void take_option(const std::string& option) {
    const auto equals = option.find('=');
    std::string key = option.substr(0, equals);
    std::replace(key.begin(), key.end(), '-', '_');
    const std::string* const next = rest_.empty() ? nullptr : &rest_.front();
    if (equals != std::string::npos) {
      add(key, option.substr(equals + 1));
    } else if (key == kConfigFile && next != nullptr) {
      take_config(*next);
      rest_ = rest_.subspan(1);
    } else if (stands_alone(key, next)) {
      add(key, "true");
    } else if (next != nullptr && !next->starts_with("--")) {
      add(key, *next);
      rest_ = rest_.subspan(1);
    } else if (find_setting(key) || key == kConfigFile) {
      user_error("command line: --{} needs a value: --{} VALUE or {}=VALUE.", option, option, key);
    } else {
      add(key, "");  // unknown: make_settings names the nearest
    }
  }

  void add(std::string key, std::string value) {
    if (key == kConfigFile) {
      take_config(value);
      return;
    }
    from_words_.push_back(from_command_line(std::move(key), std::move(value)));
  }

  void take_config(const std::string& path) {
    if (!config_.empty()) {
      user_error("command line: two config files, {} and {}. Give one.", config_, path);
    }
    config_ = path;
    from_file_ = read_config(path, line_.errors);
  }

  void take_word(const std::string& word) {
    const auto& known = verb_ == nullptr ? std::vector<std::string_view>{} : verb_->words;
    if (std::find(known.begin(), known.end(), word) == known.end()) {
      user_error(
          "command line: '{}' is neither a setting (key=value) nor a config file (.yaml, .yml, "
          ".json){}.{}",
          word, known.empty() ? "" : fmt::format(" nor one of {}", fmt::join(known, ", ")),
          meant_by(word));
    }
    line_.words.push_back(word);
  }

  std::span<const std::string> rest_;
  std::span<const Verb> verbs_;
  const Verb* verb_ = nullptr;
  CommandLine line_;
  std::string config_;
  std::vector<Assignment> from_file_;
  std::vector<Assignment> from_words_;
};

}  // namespace

CommandLine parse_command_line(std::span<const std::string> arguments,
                               std::span<const Verb> verbs) {
  return Parser(arguments, verbs).parse();
}

const Verb& find_verb(std::string_view name, std::span<const Verb> verbs) {
  std::vector<std::string_view> names;
  for (const Verb& verb : verbs) {
    if (verb.name == name) return verb;
    names.push_back(verb.name);
  }
  const auto guess = nearest(name, names);
  user_error("command line: '{}' is no verb. {}", name,
             guess ? fmt::format("Did you mean {}?", *guess)
                   : fmt::format("The verbs are {}.", fmt::join(names, ", ")));
}

}  // namespace snug
