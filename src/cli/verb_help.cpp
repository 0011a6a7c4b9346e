#include <fmt/ostream.h>

#include "cli/help.h"
#include "cli/verbs.h"
#include "core/error.h"

namespace snug {

int run_help(const Command& command, Console& console) {
  const std::span<const Verb> verbs = verb_table();
  std::string text;
  if (command.words.size() > 1) {
    user_error("help takes one topic, not {}. Run: snug help {}", command.words.size(),
               command.words.front());
  }
  if (!command.words.empty() && command.words.front() == "--defaults-markdown") {
    text = defaults_markdown();
  } else if (command.json) {
    text = tables_as_json(verbs);
  } else if (command.words.empty()) {
    text = overview(verbs, console.out_terminal);
  } else {
    text = help_for(command.words.front(), verbs, console.out_terminal);
  }
  fmt::print(console.out, "{}", text);
  return kDone;
}

}  // namespace snug
