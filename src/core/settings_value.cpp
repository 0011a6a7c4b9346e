#include "core/settings_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <iterator>

#include "core/error.h"
#include "core/text.h"

namespace snug {
namespace {

using Kind = RawValue::Kind;

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

template <class T>
bool assign(const std::optional<T>& parsed, T& value) {
  if (parsed) value = *parsed;
  return parsed.has_value();
}

/// The whole text as a T, with an optional leading '+'.
template <class T>
std::optional<T> parse_whole(std::string_view text) {
  if (text.size() > 1 && text.front() == '+' && text[1] != '-') text.remove_prefix(1);
  T value{};
  const char* const begin = text.begin();
  const char* const end = begin + text.size();
  const auto [rest, error] = std::from_chars(begin, end, value);
  if (error != std::errc() || rest != end) return std::nullopt;
  return value;
}

bool is_decay_shape(const std::string& name) {
  return name == "linear" || name == "cosine" || name == "1-sqrt";
}

/// Calls f(name, member) for each argument of the schedulers.
template <class Arguments, class F>
void for_each_argument(Arguments& arguments, F&& f) {
  f("num_cycles", arguments.num_cycles);
  f("min_lr", arguments.min_lr);
  f("min_lr_rate", arguments.min_lr_rate);
  f("warmup_lr_rate", arguments.warmup_lr_rate);
  f("min_lr_ratio", arguments.min_lr_ratio);
  f("power", arguments.power);
  f("lr_end", arguments.lr_end);
  f("timescale", arguments.timescale);
  f("num_decay_steps", arguments.num_decay_steps);
  f("num_stable_steps", arguments.num_stable_steps);
  f("warmup_type", arguments.warmup_type);
  f("decay_type", arguments.decay_type);
}

[[noreturn]] void unknown_argument(const std::string& key) {
  std::vector<std::string_view> names;
  SchedulerArguments none;
  for_each_argument(none, [&](std::string_view name, auto&) { names.push_back(name); });
  const auto guess = nearest(key, names);
  user_error("lr_scheduler_kwargs has no '{}'. {}", key,
             guess ? fmt::format("Did you mean {}?", *guess)
                   : fmt::format("It knows {}.", fmt::join(names, ", ")));
}

}  // namespace

std::optional<bool> parse_bool(std::string_view text) {
  const std::string word = lower(text);
  if (word == "true" || word == "yes" || word == "on" || word == "1") return true;
  if (word == "false" || word == "no" || word == "off" || word == "0") return false;
  return std::nullopt;
}

std::optional<double> parse_number(std::string_view text) {
  const auto value = parse_whole<double>(text);
  return value && std::isfinite(*value) ? value : std::nullopt;
}

std::optional<std::int64_t> parse_integer(std::string_view text) {
  return parse_whole<std::int64_t>(text);
}

bool read_value(const RawValue& raw, bool& value) {
  return raw.kind == Kind::scalar && assign(parse_bool(raw.text), value);
}

bool read_value(const RawValue& raw, std::int64_t& value) {
  return raw.kind == Kind::scalar && assign(parse_integer(raw.text), value);
}

bool read_value(const RawValue& raw, double& value) {
  return raw.kind == Kind::scalar && assign(parse_number(raw.text), value);
}

bool read_value(const RawValue& raw, std::string& value) {
  if (raw.kind != Kind::scalar) return false;
  value = raw.text;
  return true;
}

bool read_value(const RawValue& raw, std::vector<std::string>& value) {
  if (raw.kind == Kind::map || raw.nested) return false;
  value.clear();
  if (raw.kind == Kind::list) {
    value = raw.items;
    return true;
  }
  if (raw.kind == Kind::null) return true;
  if (raw.text.starts_with('[')) return read_value(parse_yaml_value(raw.text, "list"), value);
  for (std::size_t start = 0; start <= raw.text.size();) {
    const std::size_t end = std::min(raw.text.find(',', start), raw.text.size());
    const std::string_view item = std::string_view(raw.text).substr(start, end - start);
    const std::size_t first = item.find_first_not_of(' ');
    if (first != std::string_view::npos) {
      value.emplace_back(item.substr(first, item.find_last_not_of(' ') + 1 - first));
    }
    start = end + 1;
  }
  return true;
}

bool read_value(const RawValue& raw, Bytes& value) {
  return raw.kind == Kind::scalar && assign(parse_bytes(raw.text), value);
}

bool read_value(const RawValue& raw, Duration& value) {
  static constexpr auto kUnits = std::to_array<std::pair<std::string_view, double>>({
      {"", 1},
      {"s", 1},
      {"sec", 1},
      {"seconds", 1},
      {"m", 60},
      {"min", 60},
      {"minutes", 60},
      {"h", 3600},
      {"hour", 3600},
      {"hours", 3600},
      {"d", 86400},
      {"day", 86400},
      {"days", 86400},
  });
  if (raw.kind != Kind::scalar) return false;
  const std::size_t unit = std::min(raw.text.find_first_not_of("0123456789.eE+-"), raw.text.size());
  const auto number = parse_number(std::string_view(raw.text).substr(0, unit));
  const std::size_t word = std::min(raw.text.find_first_not_of(' ', unit), raw.text.size());
  for (const auto& [name, seconds] : kUnits) {
    if (!number || lower(std::string_view(raw.text).substr(word)) != name) continue;
    value.seconds = *number * seconds;
    return true;
  }
  return false;
}

bool read_value(const RawValue& raw, CountOrShare& value) {
  double number = 0;
  if (!read_value(raw, number) || number < 0) return false;
  if (number >= 1 && number != std::floor(number)) return false;
  value.value = number;
  return true;
}

bool read_value(const RawValue& raw, RecomputeOptions& value) {
  using enum RecomputeOptions::Policy;
  if (raw.kind != Kind::scalar) return false;
  const std::string_view text = raw.text;
  const auto counted = [&](std::string_view prefix, RecomputeOptions::Policy policy) {
    if (!text.starts_with(prefix)) return false;
    const auto number = parse_integer(text.substr(prefix.size()));
    if (!number || *number < 1) return false;
    value = {policy, *number};
    return true;
  };
  if (text == "auto") {
    value = {automatic, 0};
  } else if (text == "cheap") {
    value = {cheap, 0};
  } else if (text == "keep_attention") {
    value = {keep_attention, 0};
  } else if (text == "sqrt") {
    value = {RecomputeOptions::Policy::sqrt, 0};
  } else if (const auto on = parse_bool(text)) {
    value = {*on ? every_block : off, 0};
  } else if (const auto size = parse_bytes(text); size && parse_integer(text) == std::nullopt) {
    value = {limit, size->count};
  } else {
    return counted("every:", every) || counted("segments:", segments);
  }
  return true;
}

bool read_value(const RawValue& raw, Resume& value) {
  if (raw.kind != Kind::scalar || raw.text.empty()) return false;
  value = {};
  if (const auto on = parse_bool(raw.text)) {
    value.latest = *on;
  } else if (raw.text == "auto") {
    value.automatic = true;
  } else {
    value.folder = raw.text;
  }
  return true;
}

bool read_value(const RawValue& raw, SchedulerArguments& value) {
  value = {};
  if (raw.kind == Kind::null) return true;
  if (raw.kind == Kind::scalar && raw.text.starts_with('{')) {
    return read_value(parse_yaml_value(raw.text, "lr_scheduler_kwargs"), value);
  }
  if (raw.kind != Kind::map) return false;
  bool good = true;
  for (const auto& [key, text] : raw.pairs) {
    bool known = false;
    for_each_argument(value,
                      [&, &wanted = key, &given = text](std::string_view name, auto& argument) {
                        if (wanted != name) return;
                        known = true;
                        if (given == "null") return;
                        good = read_value(RawValue::scalar(given), argument.emplace()) && good;
                      });
    if (!known) unknown_argument(key);
  }
  return good && is_decay_shape(value.warmup_type.value_or("linear")) &&
         is_decay_shape(value.decay_type.value_or("linear"));
}

bool read_value(const RawValue& raw, OptimizerArguments& value) {
  value = {};
  if (raw.kind == Kind::null || (raw.kind == Kind::scalar && raw.text == "null")) return true;
  if (raw.kind == Kind::scalar && raw.text.starts_with('{')) {
    return read_value(parse_yaml_value(raw.text, "optim_args"), value);
  }
  std::vector<std::string> parts = raw.items;
  for (const auto& [key, text] : raw.pairs) parts.push_back(fmt::format("{}={}", key, text));
  if (raw.kind == Kind::scalar) {
    std::string text;
    std::copy_if(raw.text.begin(), raw.text.end(), std::back_inserter(text),
                 [](char c) { return c != ' '; });
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find(',', begin), text.size());
      parts.push_back(text.substr(begin, end - begin));
      begin = end + 1;
    }
  }
  for (const std::string& part : parts) {
    const std::size_t equals = part.find('=');
    if (equals == 0 || equals == std::string::npos) return false;
    value.values[part.substr(0, equals)] = part.substr(equals + 1);
  }
  return true;
}

bool read_value(const RawValue& raw, NamedNumbers& value) {
  value.clear();
  if (raw.kind == Kind::null || (raw.kind == Kind::scalar && raw.text == "none")) return true;
  if (raw.kind == Kind::scalar && raw.text.starts_with('{')) {
    return read_value(parse_yaml_value(raw.text, "a map of numbers"), value);
  }
  if (raw.kind != Kind::map) return false;
  for (const auto& [key, text] : raw.pairs) {
    const auto number = parse_number(text);
    if (!number) return false;
    value.emplace_back(key, *number);
  }
  return true;
}

bool read_value(const RawValue& raw, ColumnNames& value) {
  value.names.clear();
  if (raw.kind == Kind::null || (raw.kind == Kind::scalar && raw.text == "none")) return true;
  if (raw.kind == Kind::scalar && raw.text.starts_with('{')) {
    return read_value(parse_yaml_value(raw.text, "a map of names"), value);
  }
  if (raw.kind != Kind::map) return false;
  constexpr std::string_view kKnown[] = {"text",
                                         "prompt",
                                         "completion",
                                         "messages",
                                         "conversations",
                                         "role",
                                         "content",
                                         "tools",
                                         "system",
                                         "output",
                                         "instruction",
                                         "input",
                                         "history",
                                         "chosen",
                                         "rejected",
                                         "label",
                                         "input_ids",
                                         "labels",
                                         "chat_template_kwargs"};
  for (const auto& [ours, theirs] : raw.pairs) {
    if (std::find(std::begin(kKnown), std::end(kKnown), ours) == std::end(kKnown)) return false;
    value.names[ours] = theirs;
  }
  return true;
}

std::string print_value(bool value) { return value ? "true" : "false"; }
std::string print_value(std::int64_t value) { return fmt::format("{}", value); }
std::string print_value(double value) { return fmt::format("{}", value); }
std::string print_value(const std::string& value) { return yaml_scalar(value); }
std::string print_value(Bytes value) { return exact_bytes(value); }

std::string print_value(const std::vector<std::string>& value) {
  return RawValue{RawValue::Kind::list, {}, value, {}}.print();
}

std::string print_value(Duration value) {
  for (const auto& [unit, seconds] : {std::pair{"h", 3600.0}, std::pair{"min", 60.0}}) {
    const double count = value.seconds / seconds;
    if (count >= 1 && count == std::floor(count)) return fmt::format("{}{}", count, unit);
  }
  return fmt::format("{}s", value.seconds);
}

std::string print_value(CountOrShare value) {
  if (value.value >= 1 && value.value < 1e15) {
    return print_value(static_cast<std::int64_t>(value.value));
  }
  return print_value(value.value);
}

std::string print_value(const RecomputeOptions& value) {
  using enum RecomputeOptions::Policy;
  switch (value.policy) {
    case automatic:
      return "auto";
    case off:
      return "false";
    case every_block:
      return "true";
    case cheap:
      return "cheap";
    case every:
      return fmt::format("every:{}", value.number);
    case segments:
      return fmt::format("segments:{}", value.number);
    case keep_attention:
      return "keep_attention";
    case RecomputeOptions::Policy::sqrt:
      return "sqrt";
    case limit:
      return exact_bytes({value.number});
  }
  internal_error("recompute policy {} has no name", static_cast<int>(value.policy));
}

std::string print_value(const Resume& value) {
  if (value.automatic) return "auto";
  return value.folder.empty() ? print_value(value.latest) : yaml_scalar(value.folder);
}

std::string print_value(const NamedNumbers& value) {
  std::vector<std::string> parts;
  for (const auto& [key, number] : value) {
    parts.push_back(fmt::format("{}: {}", yaml_scalar(key), number));
  }
  return fmt::format("{{{}}}", fmt::join(parts, ", "));
}

std::string print_value(const ColumnNames& value) {
  std::vector<std::string> parts;
  for (const auto& [ours, theirs] : value.names) {
    parts.push_back(fmt::format("{}: {}", ours, yaml_scalar(theirs)));
  }
  return fmt::format("{{{}}}", fmt::join(parts, ", "));
}

std::string print_value(const SchedulerArguments& value) {
  std::vector<std::string> parts;
  for_each_argument(value, [&](std::string_view name, const auto& argument) {
    if (argument) parts.push_back(fmt::format("{}: {}", name, print_value(*argument)));
  });
  return fmt::format("{{{}}}", fmt::join(parts, ", "));
}

std::string print_value(const OptimizerArguments& value) {
  if (value.values.empty()) return "null";
  std::vector<std::string> parts;
  for (const auto& [name, text] : value.values) parts.push_back(fmt::format("{}={}", name, text));
  return yaml_scalar(fmt::format("{}", fmt::join(parts, ",")));
}

std::string expected_of(bool) { return "true or false"; }
std::string expected_of(std::int64_t) { return "a whole number"; }
std::string expected_of(double) { return "a number"; }
std::string expected_of(const std::string&) { return "text"; }
std::string expected_of(const std::vector<std::string>&) { return "a list of plain values"; }
std::string expected_of(Bytes) { return "a size such as 8GB or 8GiB"; }
std::string expected_of(Duration) { return "a time such as 30min, 45s or 2h"; }
std::string expected_of(CountOrShare) { return "a whole number, or a share below 1"; }
std::string expected_of(const NamedNumbers&) {
  return "a map of names or patterns to numbers such as {q_proj: 8}";
}
std::string expected_of(const ColumnNames&) {
  return "a map of column names such as {text: body}, of text, prompt, completion, messages, role, "
         "content, tools, system, instruction, input, output, history, input_ids or labels";
}
std::string expected_of(const RecomputeOptions&) {
  return "auto, false, true, cheap, every:K, segments:K, keep_attention, sqrt or a size such as "
         "2GiB";
}
std::string expected_of(const Resume&) { return "true, false, auto or a checkpoint's folder"; }
std::string expected_of(const OptimizerArguments&) {
  return "text such as momentum=0.9,nesterov=true";
}
std::string expected_of(const SchedulerArguments&) {
  return "a map of numbers such as {min_lr_rate: 0.1}, warmup_type and decay_type linear, cosine "
         "or 1-sqrt";
}

}  // namespace snug
