#include <fmt/format.h>

#include "cli/help.h"

namespace snug {
namespace {

/// A value in a cell of a table.
std::string cell(std::string_view value) {
  if (value.empty()) return "–";
  std::string text = "`";
  for (const char c : value) text += c == '|' ? std::string("\\|") : std::string(1, c);
  return text + "`";
}

std::string supported_table(Group group) {
  std::string text = fmt::format(
      "\n## {}\n\n| key | default | transformers, TRL | what it does; why we differ |\n"
      "|---|---|---|---|\n",
      title_of(group));
  for (const Row& row : settings_table()) {
    if (row.group != group) continue;
    std::string value = cell(row.initial.full);
    if (!row.initial.random.empty()) {
      value += fmt::format(" · LoRA, QLoRA {} · init: random {}", cell(row.initial.adapters),
                           cell(row.initial.random));
    }
    text += fmt::format("| `{}` | {} | {} | {}{} |\n", row.key, value, cell(row.peer), row.sentence,
                        row.why.empty() ? "" : fmt::format(" *Ours: {}.*", row.why));
  }
  return text;
}

std::string other_table(Status status, std::string_view title, std::string_view about) {
  std::string text = fmt::format(
      "\n## {}\n\n{}\n\n| keys | transformers, TRL | why |\n|---|---|---|\n", title, about);
  // Rows of one reason that no default tells apart stand together.
  std::string keys;
  const Row* last = nullptr;
  const auto close = [&] {
    if (last == nullptr) return;
    text += fmt::format("| {} | {} | {} |\n", keys, cell(last->peer), last->sentence);
    keys.clear();
  };
  for (const Row& row : settings_table()) {
    if (row.status != status) continue;
    const bool joins = last != nullptr && last->sentence == row.sentence && last->peer == row.peer;
    if (!joins) close();
    keys += fmt::format("{}`{}`", keys.empty() ? "" : ", ", row.key);
    last = &row;
  }
  close();
  return text;
}

}  // namespace

std::string defaults_markdown() {
  std::string text =
      "# Settings and their defaults\n\n"
      "Made from the settings table by `snug help --defaults-markdown`; do not edit. The third "
      "column is transformers' default (5.23), or TRL's (1.16) where transformers has no such key. "
      "`snug help KEY` also gives the other names of a key.\n";
  for (const Group group : all_groups()) text += supported_table(group);
  text += other_table(Status::later, "Of a technique not in this version",
                      "Accepted with the value that asks for nothing, refused otherwise.");
  text += other_table(Status::refused, "Refused",
                      "Accepted with the value that asks for nothing, refused otherwise.");
  text += other_table(Status::no_effect, "Without effect here",
                      "Accepted, with a note when the value is not the default.");
  return text;
}

}  // namespace snug
