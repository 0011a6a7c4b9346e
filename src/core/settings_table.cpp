#include "core/settings_table.h"

#include <array>
#include <map>

#include "core/error.h"
#include "core/text.h"

namespace snug {
namespace {

struct Table {
  std::vector<Row> rows;
  std::map<std::string_view, Found> names;  // canonical keys and aliases
};

Table make_table() {
  Table table;
  for (auto part : {model_rows(), tuning_rows(), data_rows(), training_rows(), quantization_rows(),
                    memory_rows(), log_rows(), verb_rows(), later_rows(), refused_rows(),
                    no_effect_rows(), peers_rows()}) {
    for (Row& row : part) table.rows.push_back(std::move(row));
  }
  for (const Row& row : table.rows) {
    check(table.names.emplace(row.key, Found{&row, nullptr}).second, "two settings are named {}",
          row.key);
    for (const Alias& alias : row.aliases) {
      check(table.names.emplace(alias.name, Found{&row, &alias}).second,
            "two settings are named {}", alias.name);
    }
  }
  return table;
}

const Table& table() {
  static const Table made = make_table();
  return made;
}

struct GroupTitle {
  Group group;
  std::string_view title;
};

constexpr std::array<GroupTitle, 19> kTitles = {{
    {Group::model, "Model"},
    {Group::tuning, "What is trained"},
    {Group::data, "Data"},
    {Group::batch, "Batch"},
    {Group::schedule, "Length and learning rate"},
    {Group::optimizer, "Optimizer"},
    {Group::precision, "Precision"},
    {Group::memory, "Memory"},
    {Group::device, "Device"},
    {Group::evaluation, "Evaluation"},
    {Group::logging, "Log"},
    {Group::saving, "Output and checkpoints"},
    {Group::generate, "generate"},
    {Group::inspect, "inspect"},
    {Group::bench, "bench step"},
    {Group::explain, "explain"},
    {Group::plan, "plan"},
    {Group::exporting, "export"},
    {Group::other, "Other packages' names"},
}};

constexpr std::array<Group, 18> kGroups = {
    Group::model,     Group::tuning,    Group::data,     Group::batch,   Group::schedule,
    Group::optimizer, Group::precision, Group::memory,   Group::device,  Group::evaluation,
    Group::logging,   Group::saving,    Group::generate, Group::inspect, Group::bench,
    Group::explain,   Group::plan,      Group::exporting};

}  // namespace

std::string_view title_of(Group group) {
  for (const GroupTitle& entry : kTitles) {
    if (entry.group == group) return entry.title;
  }
  internal_error("group {} has no title", static_cast<int>(group));
}

std::span<const Group> all_groups() { return kGroups; }
std::span<const Group> run_groups() { return std::span(kGroups).first<12>(); }

std::span<const Row> settings_table() { return table().rows; }

Found find_setting(std::string_view name) {
  const auto found = table().names.find(name);
  return found == table().names.end() ? Found{} : found->second;
}

std::optional<std::string_view> nearest_setting(std::string_view name) {
  std::vector<std::string_view> names;
  // Supported keys first: among equals the nearest is the first.
  for (const bool supported : {true, false}) {
    for (const auto& [known, found] : table().names) {
      if ((found.row->status == Status::supported) == supported) names.push_back(known);
    }
  }
  const auto guess = nearest(name, names);
  if (!guess) return std::nullopt;
  return find_setting(*guess).row->key;
}

std::vector<Row> plain_rows(Status status, const std::vector<PlainRow>& keys) {
  std::vector<Row> rows;
  for (const PlainRow& key : keys) {
    Row& row = rows.emplace_back();
    row.key = key.key;
    row.status = status;
    row.sentence = key.sentence;
    row.peer = key.peer;
    row.aliases = key.aliases;
    row.inert = key.inert;
    if (!key.peer.empty()) row.inert.push_back(key.peer);
  }
  return rows;
}

std::string_view default_of(const Row& row, const Settings& settings) {
  const bool adapters = settings.model.finetuning == FinetuningType::lora;
  if (adapters && !row.initial.adapters.empty()) return row.initial.adapters;
  const bool random = settings.model.init == InitWeights::random;
  return random && !row.initial.random.empty() ? row.initial.random : row.initial.full;
}

}  // namespace snug
