#include "cli/help.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/help_terms.h"
#include "cli/verbs.h"
#include "core/error.h"
#include "core/settings_load.h"
#include "core/text.h"

namespace snug {
namespace {

constexpr int kKeyColumn = 2;
constexpr int kTextColumn = 6;

std::string_view name_of_status(Status status) {
  switch (status) {
    case Status::supported:
      return "supported";
    case Status::no_effect:
      return "no effect here";
    case Status::refused:
      return "refused";
    case Status::later:
      return "of a technique not in this version";
  }
  internal_error("status {} has no name", static_cast<int>(status));
}

/// `2e-5 (LoRA, QLoRA 2e-4; init=random 3e-4)`
std::string default_text(const Row& row) {
  std::string text(row.initial.full.empty() ? "none" : row.initial.full);
  if (row.initial.random.empty()) return text;
  return text +
         fmt::format(" (LoRA, QLoRA {}; init=random {})", row.initial.adapters, row.initial.random);
}

std::string expected_text(const Row& row) {
  return row.field ? row.field.expected : std::string(row.initial.full);
}

/// A key, its type and default, and what it does; of that the first sentence where it is to be
/// `brief`.
std::string entry(const Row& row, const Terminal& terminal, bool brief = false) {
  const std::string facts =
      row.status == Status::supported
          ? fmt::format("  {} · default {}", expected_text(row), default_text(row))
          : fmt::format("  {}", name_of_status(row.status));
  std::string text = fmt::format("{:{}}{}", "", kKeyColumn, terminal.bold(row.key));
  if (kKeyColumn + row.key.size() + facts.size() <= static_cast<std::size_t>(terminal.width)) {
    text += fmt::format("{}\n", facts);
  } else {
    text += fmt::format("\n{}", wrapped(facts, kTextColumn, terminal.width));
  }
  const std::size_t end = brief ? row.sentence.find(". ") : row.sentence.npos;
  const std::string_view sentence =
      end == row.sentence.npos ? row.sentence : row.sentence.substr(0, end + 1);
  return text + wrapped(sentence, kTextColumn, terminal.width);
}

std::string group_text(Group group, const Terminal& terminal) {
  std::string text = fmt::format("\n{}\n", terminal.bold(title_of(group)));
  for (const Row& row : settings_table()) {
    if (row.group == group) text += entry(row, terminal);
  }
  return text;
}

std::string exit_statuses(const Terminal& terminal) {
  std::string text = fmt::format("\n{}\n", terminal.bold("Exit status"));
  for (const ExitStatus& exit : exit_table()) {
    text += wrapped(fmt::format("{} {}", exit.status, exit.meaning), kKeyColumn, terminal.width);
  }
  return text;
}

/// The verb with its main keys, or with all keys of its groups.
std::string verb_text(const Verb& verb, const Terminal& terminal) {
  std::string text =
      fmt::format("{}\n{}", terminal.bold(fmt::format("snug {} {}", verb.name, verb.usage)),
                  wrapped(verb.sentence, kKeyColumn, terminal.width));
  if (verb.main.empty()) {
    for (const Group group : verb.groups) text += group_text(group, terminal);
    return text;
  }
  text += fmt::format("\n{}\n", terminal.bold("The keys most used"));
  for (const std::string_view key : verb.main) {
    text += entry(*find_setting(key).row, terminal, true);
  }
  text += exit_statuses(terminal);
  return text + "\n" +
         wrapped("`snug help all` lists every key, `snug help KEY` explains one.", 0,
                 terminal.width);
}

/// ` finetuning_type=lora` of every need, for people.
std::string needs_text(const Row& row) {
  std::string text;
  for (const Need& need : row.only_with.value_or(always())) {
    text += (text.empty() ? "" : "; and ") + describe(need);
  }
  return text;
}

std::string setting_text(const Row& row, const Terminal& terminal) {
  std::string text = entry(row, terminal);
  if (row.status != Status::supported && !row.peer.empty()) {
    text +=
        wrapped(fmt::format("Its default elsewhere: {}.", row.peer), kTextColumn, terminal.width);
  } else if (!row.peer.empty()) {
    text += wrapped(fmt::format("transformers, or TRL: {}{}.", row.peer,
                                row.why.empty() ? "" : fmt::format("; ours because: {}", row.why)),
                    kTextColumn, terminal.width);
  }
  std::vector<std::string_view> names;
  names.reserve(row.aliases.size());
  for (const Alias& alias : row.aliases) names.push_back(alias.name);
  if (!names.empty()) {
    text += wrapped(fmt::format("Also written: {}.", fmt::join(names, ", ")), kTextColumn,
                    terminal.width);
  }
  if (row.status == Status::supported && !row.inert.empty() && !row.field) {
    text += wrapped(fmt::format("Meaning the same: {}.", fmt::join(row.inert, ", ")), kTextColumn,
                    terminal.width);
  }
  if (row.field && !row.inert.empty()) {
    text += wrapped(fmt::format("Leaving the default: {}.", fmt::join(row.inert, ", ")),
                    kTextColumn, terminal.width);
  }
  if (const std::string needs = needs_text(row); !needs.empty()) {
    text += wrapped(fmt::format("Has an effect only with {}.", needs), kTextColumn, terminal.width);
  }
  for (const RefusedValues& refused : row.refused) {
    text +=
        wrapped(fmt::format("Not possible: {}: {}.", fmt::join(refused.values, ", "), refused.why),
                kTextColumn, terminal.width);
  }
  return text;
}

[[noreturn]] void unknown_topic(std::string_view topic, std::span<const Verb> verbs) {
  std::vector<std::string_view> names;
  for (const Verb& verb : verbs) names.push_back(verb.name);
  const auto verb = nearest(topic, names);
  const auto key = verb ? verb : nearest_setting(topic);
  user_error("'{}' is neither a verb nor a setting. {}", topic,
             key ? fmt::format("Did you mean {}?", *key)
                 : "`snug help` lists the verbs, `snug help all` the keys.");
}

}  // namespace

std::string overview(std::span<const Verb> verbs, const Terminal& terminal) {
  std::string text =
      wrapped(fmt::format("snug {}: trains language models, and knows the memory before the run.",
                          SNUG_VERSION),
              0, terminal.width);
  text +=
      fmt::format("\n{}\n\n", terminal.bold("snug VERB [config.yaml] [key=value ...] [--json]"));
  for (const Verb& verb : verbs) {
    text += fmt::format("  {} {}\n{}", terminal.bold(verb.name), verb.usage,
                        wrapped(verb.sentence, kTextColumn, terminal.width));
  }
  text += fmt::format("\n{}", wrapped("`--key value` and `--key=value` are key=value; lists have "
                                      "commas; what comes later wins. Keys are Hugging Face's. "
                                      "--json prints the result as one object on standard output.",
                                      0, terminal.width));
  return text + exit_statuses(terminal);
}

std::string help_for(std::string_view topic, std::span<const Verb> verbs,
                     const Terminal& terminal) {
  if (topic == "all") {
    std::string text;
    for (const Group group : all_groups()) text += group_text(group, terminal);
    return text.substr(1) + group_text(Group::other, terminal);
  }
  for (const Verb& verb : verbs) {
    if (verb.name == topic) return verb_text(verb, terminal);
  }
  if (const Found found = find_setting(topic)) return setting_text(*found.row, terminal);
  if (std::string page = terms_for(topic, terminal); !page.empty()) return page;
  unknown_topic(topic, verbs);
}

std::string tables_as_json(std::span<const Verb> verbs) {
  using nlohmann::json;
  json all = {{"schema", 1},
              {"version", SNUG_VERSION},
              {"verbs", json::array()},
              {"settings", json::array()}};
  for (const Verb& verb : verbs) {
    all["verbs"].push_back(
        {{"name", verb.name}, {"usage", verb.usage}, {"sentence", verb.sentence}});
  }
  for (const Row& row : settings_table()) {
    json aliases = json::array();
    for (const Alias& alias : row.aliases) aliases.push_back(alias.name);
    all["settings"].push_back({{"key", row.key},
                               {"group", title_of(row.group)},
                               {"status", name_of_status(row.status)},
                               {"expected", expected_text(row)},
                               {"default", row.initial.full},
                               {"default_adapters", row.initial.adapters},
                               {"default_random", row.initial.random},
                               {"peer_default", row.peer},
                               {"why", row.why},
                               {"sentence", row.sentence},
                               {"aliases", aliases}});
  }
  return all.dump(1) + "\n";
}

}  // namespace snug
