#pragma once
// The one table of settings: command line, config.yaml, help, docs/defaults.md and the printed
// configuration all come from its rows.

#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/settings.h"
#include "core/settings_value.h"

namespace snug {

enum class Group {
  model,
  tuning,
  data,
  batch,
  schedule,
  optimizer,
  precision,
  memory,
  device,
  evaluation,
  logging,
  saving,
  generate,
  inspect,
  bench,
  explain,
  plan,
  exporting,
  other,  // names of other packages that do nothing here
};

std::string_view title_of(Group group);
std::span<const Group> all_groups();
/// The groups that say what a training run is; the rest belongs to single verbs.
std::span<const Group> run_groups();

/// What becomes of a key that somebody writes down.
enum class Status {
  supported,
  no_effect,  // accepted, with a note why it does nothing here
  refused,    // refused unless it has its inert value; `sentence` says why
  later,      // of a technique not in this version: refused unless it has its inert value
};

/// Another name of a key. `values` translate values that mean something else under that name.
struct Alias {
  Alias(const char* spelling) : name(spelling) {}  // NOLINT(google-explicit-constructor)
  Alias(const char* spelling, std::vector<std::pair<std::string_view, std::string_view>> changes)
      : name(spelling), values(std::move(changes)) {}
  std::string_view name;
  std::vector<std::pair<std::string_view, std::string_view>> values;
};

/// Values that are named here only to be refused with a reason.
struct RefusedValues {
  std::vector<std::string_view> values;
  std::string_view why;
};

/// Our defaults as text. Where the second and third are empty, the first holds there too.
struct Defaults {
  Defaults(const char* all) : full(all) {}  // NOLINT(google-explicit-constructor)
  Defaults(const char* full_tuning, const char* with_adapters, const char* from_random)
      : full(full_tuning), adapters(with_adapters), random(from_random) {}
  std::string_view full;
  std::string_view adapters;  // LoRA, QLoRA
  std::string_view random;    // init: random
};

/// Limits of a number; `exclusive` leaves the lowest itself out.
struct Range {
  double lowest = -std::numeric_limits<double>::infinity();
  double highest = std::numeric_limits<double>::infinity();
  bool exclusive = false;
};

/// A look at another key: holds while its value, as printed, is one of `values`; with `but`, while
/// it is none of them.
struct KeyIs {
  std::string_view key;
  std::vector<std::string_view> values;
  bool but = false;
};

/// What a key must find for its value to have an effect: any of `any`. Otherwise a line says that
/// it has none; with `strict` it is refused, unless the other key was set, which then decides.
struct Need {
  std::vector<KeyIs> any;
  bool strict = false;
};

/// What changing a key means to a run that goes on from a checkpoint.
enum class OnResume {
  undeclared,
  free,      // its results stay the same bits, or changing it is asked for by name
  fixed,     // other results: refused
  in_state,  // held against what the checkpoint itself holds: the rows, the batch, the seeds
};

/// `only_with` of a row whose value has an effect whatever other keys say.
inline std::vector<Need> always() { return {}; }

/// A row's tie to its member of Settings.
struct Field {
  std::function<bool(Settings&, const RawValue&)> read;  // false: not what is expected
  std::function<std::string(const Settings&)> print;     // as YAML
  std::string expected;
  std::vector<std::string_view> choices;  // of an enumeration
  bool takes_list = false;                // a comma separates
  bool takes_null = false;                // null is a value, not "as if not written"
  bool takes_map = false;                 // a dictionary
  bool is_switch = false;                 // `--key` alone means true
  bool is_size = false;                   // bytes
  explicit operator bool() const { return static_cast<bool>(read); }
};

struct Row {
  std::string_view key = {};
  Group group = Group::other;
  Status status = Status::supported;
  Field field = {};  // none: one value only, in `initial` and `inert`
  Defaults initial = "";
  std::string_view sentence = {};  // what it does; else why it does not
  std::string_view peer = {};      // transformers' default, else TRL's; empty: neither has the key
  std::string_view why = {};       // why our default differs from the peer's
  std::vector<Alias> aliases = {};
  // Other spellings of values.
  std::vector<std::pair<std::string_view, std::string_view>> values = {};
  // Values that ask for nothing, the peer's among them; with a field: that leave the default.
  std::vector<std::string_view> inert = {};
  std::vector<RefusedValues> refused = {};
  // When the value has an effect. Every row with a field says so, `always()` or the needs, which
  // must all be met.
  std::optional<std::vector<Need>> only_with = std::nullopt;
  OnResume resume = OnResume::undeclared;  // declared by every row of a run
  bool recorded = true;                    // written into the configurations that snug makes
};

/// All rows; within a group in the order of printing.
std::span<const Row> settings_table();

/// The row of a canonical key or an alias; `alias` is set for the latter, neither for other names.
struct Found {
  const Row* row = nullptr;
  const Alias* alias = nullptr;
  explicit operator bool() const { return row != nullptr; }
};
Found find_setting(std::string_view name);

/// The known name nearest to `name`, canonical.
std::optional<std::string_view> nearest_setting(std::string_view name);

/// The default that holds for these settings (their `init` decides).
std::string_view default_of(const Row& row, const Settings& settings);

/// A key of other packages, without a member of Settings.
struct PlainRow {
  std::string_view key;
  std::string_view peer;  // empty: neither transformers nor TRL has the key
  std::string_view sentence;
  std::vector<Alias> aliases = {};
  std::vector<std::string_view> inert = {};  // besides the peer's default
};
std::vector<Row> plain_rows(Status status, const std::vector<PlainRow>& keys);

// The parts of the table, one file each.
std::vector<Row> model_rows();
std::vector<Row> tuning_rows();
std::vector<Row> data_rows();
std::vector<Row> training_rows();
std::vector<Row> quantization_rows();
std::vector<Row> memory_rows();
std::vector<Row> log_rows();
std::vector<Row> verb_rows();
std::vector<Row> later_rows();
std::vector<Row> refused_rows();
std::vector<Row> no_effect_rows();
std::vector<Row> peers_rows();

}  // namespace snug
