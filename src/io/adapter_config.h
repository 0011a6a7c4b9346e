#pragma once
// Reading PEFT's adapter_config.json, with every field accounted for.

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/settings.h"

namespace snug {

/// The fields of one adapter_config.json. An absent field and null read alike.
class AdapterConfig {
 public:
  /// UserError naming the file and the field for another kind of adapter, a field that asks for
  /// what snug has not, and one that it does not know.
  explicit AdapterConfig(const std::filesystem::path& file);

  /// The file, as messages name it.
  const std::string& where() const { return where_; }

  // UserError for a value of another kind.
  std::optional<std::string> text(std::string_view key) const;
  std::optional<double> number(std::string_view key) const;
  std::optional<bool> flag(std::string_view key) const;
  /// One element alone counts as a list of it.
  std::vector<std::string> texts(std::string_view key) const;
  std::vector<std::int64_t> numbers(std::string_view key) const;
  /// Names, or one expression of whole names, which text alone is to PEFT.
  std::vector<std::string> expression_or_names(std::string_view key) const;
  NamedNumbers pattern(std::string_view key) const;

 private:
  const nlohmann::json* find(std::string_view key) const;
  void check_field(const std::string& key, const nlohmann::json& value) const;
  template <class T>
  std::optional<T> value(std::string_view key, bool (nlohmann::json::*is)() const noexcept,
                         std::string_view expected) const;
  template <class T>
  std::vector<T> list(std::string_view key, bool (nlohmann::json::*is)() const noexcept,
                      std::string_view expected) const;
  [[noreturn]] void wrong(std::string_view key, const nlohmann::json& found,
                          std::string_view expected) const;

  std::string where_;
  nlohmann::json json_;
};

}  // namespace snug
