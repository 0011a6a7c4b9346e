#pragma once
// The columns of one row, as raw JSON under the names that snug's layouts use.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/settings.h"
#include "data/json_scan.h"
#include "data/rows.h"

namespace snug {

class RowColumns {
 public:
  /// Members with the value null are left out. `json` must outlive this. UserError as json_members.
  RowColumns(std::string_view json, std::string_view place, const DataSettings& settings);

  bool has(std::string_view name) const { return find(name).has_value(); }
  /// The raw value.
  std::optional<std::string_view> find(std::string_view name) const;
  /// Whether the value is a list or an object.
  bool is_list(std::string_view name) const;
  bool is_bool(std::string_view name) const;

  /// UserError naming the column where it is of another type.
  std::string text(std::string_view name) const;
  /// Empty where the column is missing.
  std::string text_or_empty(std::string_view name) const;
  std::vector<std::int32_t> integers(std::string_view name) const;

  const std::string& place() const { return place_; }
  /// All names, by commas.
  std::string names() const;
  [[noreturn]] void wrong_type(std::string_view name, std::string_view expected) const;

 private:
  JsonMembers members_;
  std::string place_;
};

/// A raw JSON string's text. UserError where it is none, or is not valid UTF-8.
std::string json_text(std::string_view raw, std::string_view where);

// What the layouts make of the columns.
TokenRow token_row(const RowColumns& columns, TrainOn train_on);
ChatRow chat_row(const RowColumns& columns, const DataSettings& settings);
ChatRow alpaca_row(const RowColumns& columns);
/// prompt and completion as lists of messages.
ChatRow chat_completion_row(const RowColumns& columns, const DataSettings& settings);

}  // namespace snug
