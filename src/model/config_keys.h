#pragma once
// Reading one JSON object by key, with every key accounted for at the end.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace snug {

/// The keys of one object of config.json. Each read marks its key as known; `finish` refuses what
/// nobody read. The object must outlive this.
class ConfigKeys {
 public:
  /// `where` names the file, `prefix` the object inside it (`rope_scaling.`, or empty) in messages.
  ConfigKeys(const nlohmann::json& object, std::string_view where, std::string_view prefix);

  /// The value, or null when the key is absent. A JSON null counts as a value.
  const nlohmann::json* find(std::string_view key);
  /// True when the key is there and is not null.
  bool has(std::string_view key);

  /// An integer in [least, most]; `absent` when the key is absent.
  std::int64_t size(std::string_view key, std::int64_t absent, std::int64_t most,
                    std::int64_t least = 1);
  /// The same from 1 on, `null` for a JSON null.
  std::int64_t size_or_null(std::string_view key, std::int64_t absent, std::int64_t null,
                            std::int64_t most);
  double positive(std::string_view key, double absent);
  /// A positive number that must be there.
  double required_positive(std::string_view key);
  bool flag(std::string_view key, bool absent);
  std::string text(std::string_view key);

  /// UserError for the first key that was not read, is not ignorable and not neutral.
  /// `model_type` is named in the message.
  void finish(std::string_view model_type) const;

  /// `config.json: 'rope_scaling.factor'`: how messages begin.
  std::string at(std::string_view key) const;

 private:
  const nlohmann::json& object_;
  std::string where_;
  std::string prefix_;
  std::set<std::string, std::less<>> known_;
};

}  // namespace snug
