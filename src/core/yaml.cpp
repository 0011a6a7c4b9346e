#include "core/yaml.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <cctype>
#include <fstream>
#include <set>
#include <sstream>

#include "core/error.h"

namespace snug {
namespace {

constexpr std::int64_t kMaxFileBytes = 1048576;
constexpr std::size_t kMaxPairs = 1000;
constexpr int kMaxDepth = 4;
constexpr std::size_t kMaxShown = 200;  // letters of a list or map inside a list

std::int64_t line_of(const YAML::Mark& mark) { return mark.line + 1; }

/// Runs yaml-cpp and gives its errors our form.
template <class F>
auto guarded(const std::string& name, F&& parse) {
  try {
    return parse();
  } catch (const YAML::Exception& error) {
    if (error.mark.is_null()) user_error("{}: not valid YAML: {}.", name, error.msg);
    user_error("{}:{}: not valid YAML: {}.", name, line_of(error.mark), error.msg);
  }
}

/// Sees nothing of a text but how many documents it starts.
class DocumentCount : public YAML::EventHandler {
 public:
  int count = 0;
  void OnDocumentStart(const YAML::Mark&) override { ++count; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

/// Stops at the second, as yaml-cpp finds documents without end behind a closing bracket that
/// nothing opened.
bool has_several_documents(const std::string& text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  DocumentCount documents;
  while (documents.count < 2 && parser.HandleNextDocument(documents)) {
  }
  return documents.count > 1;
}

/// A list or map inside a list, for messages: in flow form, cut where it is long.
void append_flow(const YAML::Node& node, int depth, std::string& text) {
  if (text.size() > kMaxShown || depth > kMaxDepth) {
    if (!text.ends_with("...")) text += "...";
  } else if (node.IsMap()) {
    text += '{';
    for (const auto& entry : node) {
      if (!text.ends_with('{')) text += ", ";
      append_flow(entry.first, depth + 1, text);
      text += ": ";
      append_flow(entry.second, depth + 1, text);
      if (text.size() > kMaxShown) break;
    }
    text += '}';
  } else if (node.IsSequence()) {
    text += '[';
    for (const auto& item : node) {
      if (!text.ends_with('[')) text += ", ";
      append_flow(item, depth + 1, text);
      if (text.size() > kMaxShown) break;
    }
    text += ']';
  } else {
    text += node.IsScalar() ? yaml_scalar(node.Scalar()) : "null";
  }
}

/// What an entry's nodes are read with: the place for messages.
struct Reader {
  const std::string& name;

  std::string scalar(const YAML::Node& node, std::string_view what) const {
    if (!node.IsScalar() && !node.IsNull()) {
      user_error("{}:{}: {} holds a list or a map, expected a plain value.", name,
                 line_of(node.Mark()), what);
    }
    return node.IsNull() ? "null" : node.Scalar();
  }

  void flatten(const YAML::Node& map, const std::string& prefix, int depth, RawValue& value) const {
    if (depth > kMaxDepth || value.pairs.size() > kMaxPairs) {
      user_error("{}:{}: '{}' is nested too deeply.", name, line_of(map.Mark()), prefix);
    }
    for (const auto& entry : map) {
      const std::string key = prefix + scalar(entry.first, "a key");
      if (entry.second.IsMap()) {
        flatten(entry.second, key + ".", depth + 1, value);
      } else if (entry.second.IsSequence()) {
        value.pairs.emplace_back(key, YAML::Dump(entry.second));
      } else {
        value.pairs.emplace_back(key, scalar(entry.second, key));
      }
    }
  }

  /// `key` names the value in messages.
  RawValue value(const YAML::Node& node, const std::string& key) const {
    RawValue result;
    switch (node.Type()) {
      case YAML::NodeType::Undefined:
      case YAML::NodeType::Null:
        result.kind = RawValue::Kind::null;
        break;
      case YAML::NodeType::Scalar:
        result.text = node.Scalar();
        break;
      case YAML::NodeType::Sequence:
        result.kind = RawValue::Kind::list;
        for (const auto& item : node) {
          std::string& text = result.items.emplace_back();
          const bool plain = item.IsScalar() || item.IsNull();
          result.nested = result.nested || !plain;
          if (plain) {
            text = scalar(item, key);
          } else {
            append_flow(item, 0, text);
          }
        }
        break;
      case YAML::NodeType::Map:
        result.kind = RawValue::Kind::map;
        flatten(node, "", 0, result);
        break;
    }
    return result;
  }
};

}  // namespace

std::string RawValue::print() const {
  std::vector<std::string> parts;
  switch (kind) {
    case Kind::null:
      return "null";
    case Kind::scalar:
      return text;
    case Kind::list:
      for (const std::string& item : items) parts.push_back(nested ? item : yaml_scalar(item));
      return fmt::format("[{}]", fmt::join(parts, ", "));
    case Kind::map:
      for (const auto& [key, inner] : pairs) {
        parts.push_back(fmt::format("{}: {}", yaml_scalar(key), yaml_scalar(inner)));
      }
      return fmt::format("{{{}}}", fmt::join(parts, ", "));
  }
  internal_error("a value of no kind");
}

std::vector<YamlEntry> parse_yaml(const std::string& text, const std::string& name,
                                  ErrorList& errors) {
  std::vector<YamlEntry> entries;
  const auto parse = [&] {
    if (guarded(name, [&] { return has_several_documents(text); })) {
      user_error("{}: holds several YAML documents, expected one.", name);
    }
    const YAML::Node root = guarded(name, [&] { return YAML::Load(text); });
    if (root.IsNull()) return;
    if (!root.IsMap()) {
      user_error("{}:{}: expected settings as 'key: value' lines.", name, line_of(root.Mark()));
    }
    const Reader reader{name};
    std::map<std::string, std::int64_t> lines;
    for (const auto& entry : root) {
      errors.attempt([&] {
        const std::int64_t line = line_of(entry.first.Mark());
        const std::string key = reader.scalar(entry.first, "a key");
        const auto [before, fresh] = lines.emplace(key, line);
        if (!fresh) {
          user_error("{}:{}: {} is already set in line {}.", name, line, key, before->second);
        }
        entries.push_back({key, reader.value(entry.second, key), line});
      });
    }
  };
  errors.attempt(parse);
  return entries;
}

std::vector<YamlEntry> read_yaml(const std::string& path, ErrorList& errors) {
  std::string text(static_cast<std::size_t>(kMaxFileBytes) + 1, '\0');
  const auto read = [&] {
    std::ifstream file(path, std::ios::binary);
    if (!file) user_error("{}: cannot be opened. Is the path right?", path);
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    if (file.bad() || (file.fail() && !file.eof())) user_error("{}: cannot be read.", path);
    if (file.gcount() > kMaxFileBytes) {
      user_error("{}: is larger than 1 MiB, which no settings file is.", path);
    }
    text.resize(static_cast<std::size_t>(file.gcount()));
  };
  if (!errors.attempt(read)) return {};
  return parse_yaml(text, path, errors);
}

RawValue parse_yaml_value(const std::string& text, const std::string& name) {
  const YAML::Node node = guarded(name, [&] { return YAML::Load(text); });
  return Reader{name}.value(node, name);
}

std::string yaml_scalar(std::string_view text) {
  const auto plain = [](unsigned char c) {
    return std::isalnum(c) != 0 || c >= 0x80 ||
           std::string_view("_./+-:^").find(static_cast<char>(c)) != std::string_view::npos;
  };
  bool quote = text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL" ||
               text.front() == '-' || text.front() == ':' || text.back() == ':';
  for (const char c : text) quote = quote || !plain(static_cast<unsigned char>(c));
  // A negative number stays plain.
  if (text.size() > 1 && text.front() == '-' &&
      std::isdigit(static_cast<unsigned char>(text[1])) != 0) {
    quote = text.find_first_not_of("0123456789.eE+-") != std::string_view::npos;
  }
  if (!quote) return std::string(text);
  std::string result = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      result += {'\\', c};
    } else if (c == '\n') {
      result += "\\n";
    } else if (c == '\t') {
      result += "\\t";
    } else if (byte < 0x20 || byte == 0x7f) {
      result += fmt::format("\\x{:02x}", byte);
    } else {
      result += c;
    }
  }
  return result + '"';
}

}  // namespace snug
