#include <algorithm>
#include <cctype>
#include <charconv>
#include <functional>

#include "ir/builder.h"
#include "ir/op.h"
#include "ir/text.h"

namespace snug {
namespace {

bool is_name_char(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' || c == '/' ||
         c == '-' || c == '+' || c == '@' || c == ':' || c == '*';
}

/// One line being read from left to right.
class Line {
 public:
  Line(std::string_view text, std::int64_t number) : text_(text), number_(number) {}

  [[noreturn]] void fail(std::string_view expected) const {
    user_error("graph text, line {}: expected {} at '{}'", number_, expected, text_);
  }
  bool done() {
    skip_space();
    return text_.empty();
  }
  bool take(std::string_view token) {
    skip_space();
    if (!text_.starts_with(token)) return false;
    text_.remove_prefix(token.size());
    return true;
  }
  void need(std::string_view token) {
    if (!take(token)) fail(fmt::format("'{}'", token));
  }
  std::string word() {
    skip_space();
    const auto end = std::find_if_not(text_.begin(), text_.end(), is_name_char);
    std::string result(text_.begin(), end);
    if (result.empty()) fail("a name");
    text_.remove_prefix(result.size());
    return result;
  }
  std::int64_t integer() {
    skip_space();
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), value);
    if (error != std::errc{}) fail("an integer");
    text_.remove_prefix(static_cast<std::size_t>(end - text_.data()));
    return value;
  }
  /// Everything up to `stop`, which is taken too.
  std::string until(char stop) {
    const auto end = text_.find(stop);
    if (end == std::string_view::npos) fail(fmt::format("'{}'", stop));
    std::string result(text_.substr(0, end));
    text_.remove_prefix(end + 1);
    return result;
  }
  /// Runs `parse` and turns its InternalError into the error of this line.
  template <class F>
  auto guarded(std::string_view expected, F&& parse) {
    try {
      return parse();
    } catch (const InternalError&) {
      fail(expected);
    }
  }

 private:
  void skip_space() {
    while (!text_.empty() && text_.front() == ' ') text_.remove_prefix(1);
  }
  std::string_view text_;
  std::int64_t number_;
};

TensorType parse_type(Line& line) {
  TensorType type;
  const auto dtype = dtype_from_name(line.word());
  if (!dtype) line.fail("a dtype");
  type.dtype = *dtype;
  line.need("[");
  std::string dims = line.until(']');
  std::erase(dims, ' ');
  type.shape = line.guarded("a shape", [&] { return shape_from_text(dims); });
  return type;
}

template <class E>
bool parse_enum(const std::string& word, E& result) {
  try {
    result = enum_from_name<E>(word);
    return true;
  } catch (const InternalError&) {
    return false;
  }
}

class Parser {
 public:
  Graph run(std::string_view text) {
    std::int64_t number = 0;
    while (!text.empty()) {
      const auto end = std::min(text.find('\n'), text.size());
      Line line(text.substr(0, end), ++number);
      text.remove_prefix(std::min(end + 1, text.size()));
      if (!line.done()) parse_line(line);
    }
    return std::move(graph_);
  }

 private:
  void parse_line(Line& line) {
    if (line.take("%")) return parse_node(line);
    const std::string keyword = line.word();
    if (keyword == "graph") {
      graph_.rename(line.word());
    } else if (keyword == "facts") {
      while (!line.done()) graph_.facts.insert(line.word());
    } else if (keyword == "parameter") {
      parse_parameter(line);
    } else if (keyword == "input") {
      line.need("%");
      Value value;
      value.name = line.word();
      parse_value(line, value, [](Line& l) { return l.done(); });
      add(line, std::move(value));
    } else if (keyword == "output") {
      graph_.outputs.push_back(parse_operand(line));
    } else {
      line.fail("graph, facts, parameter, input, output or a node");
    }
  }

  void add(Line& line, Value value) {
    if (exists(graph_.find(value.name))) line.fail("a name that is not taken yet");
    graph_.add_value(std::move(value));
  }

  ValueId parse_operand(Line& line) {
    if (line.take("_")) return kNoValue;
    line.need("%");
    const ValueId id = graph_.find(line.word());
    if (!exists(id)) line.fail("a value that is defined above");
    return id;
  }

  void parse_value(Line& line, Value& value, const std::function<bool(Line&)>& at_end) {
    value.type = parse_type(line);
    while (!at_end(line)) {
      const std::string word = line.word();
      if (parse_enum(word, value.role) || parse_enum(word, value.scope) ||
          parse_enum(word, value.space)) {
        continue;
      }
      line.need("=");
      if (word == "base") {
        value.base = parse_operand(line);
      } else if (word == "offset") {
        value.offset = line.integer();
      } else if (word == "stride") {
        value.row_stride = line.integer();
      } else if (word == "layer") {
        value.layer = static_cast<int>(line.integer());
      } else {
        line.fail("role, scope, space, base, offset, stride or layer");
      }
    }
  }

  AttributeValue parse_attribute(Line& line) {
    if (line.take("\"")) return line.until('"');
    const std::string word = line.word();
    if (word.find_first_of(".einf") == std::string::npos) {
      std::int64_t integer = 0;
      const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), integer);
      if (error == std::errc{} && end == word.data() + word.size()) return integer;
    }
    double real = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), real);
    if (error != std::errc{} || end != word.data() + word.size()) line.fail("a number or a text");
    return real;
  }

  void parse_node(Line& line) {
    std::vector<std::string> names{line.word()};
    while (line.take(",")) {
      line.need("%");
      names.push_back(line.word());
    }
    line.need("=");
    Node node;
    const auto op = op_from_name(line.word());
    if (!op) line.fail("an op");
    node.op = *op;
    line.need("(");
    while (!line.take(")")) {
      node.inputs.push_back(parse_operand(line));
      line.take(",");
    }
    if (line.take("{")) {
      while (!line.take("}")) {
        std::string key = line.word();
        line.need("=");
        node.attributes.set(key, parse_attribute(line));
        line.take(",");
      }
    }
    line.need(":");
    std::vector<Value> values;
    for (const std::string& name : names) {
      Value value;
      value.name = name;
      value.layer = kInherit;
      parse_value(line, value, [](Line& l) { return l.take(";") || l.take("@"); });
      values.push_back(std::move(value));
    }
    node.phase = line.guarded("a phase", [&] { return enum_from_name<Phase>(line.word()); });
    while (!line.done()) {
      const std::string word = line.word();
      if (word == "layer") {
        line.need("=");
        node.layer = static_cast<int>(line.integer());
      } else if (!parse_enum(word, node.lane)) {
        line.fail("layer or a lane");
      }
    }
    for (Value& value : values) {
      if (value.layer == kInherit) value.layer = node.layer;
      const std::string name = value.name;
      add(line, std::move(value));
      node.outputs.push_back(graph_.find(name));
    }
    graph_.nodes.push_back(std::move(node));
  }

  void parse_parameter(Line& line) {
    Parameter parameter;
    parameter.name = line.word();
    parameter.type = parse_type(line);
    parameter.trainable = line.take("trainable");
    parameter.decay = line.take("decay");
    if (line.take("zeros")) parameter.initial = Initial::zeros;
    if (line.take("ones")) parameter.initial = Initial::ones;
    while (!line.done()) {
      const std::string key = line.word();
      line.need("=");
      if (key == "uses") {
        parameter.uses = static_cast<int>(line.integer());
      } else if (key == "layer") {
        parameter.layer = static_cast<int>(line.integer());
      } else if (key == "tied") {
        parameter.tied_names.push_back(line.word());
      } else if (key == "storage") {
        parameter.storage.push_back(parse_storage(line));
      } else {
        line.fail("uses, layer, tied or storage");
      }
    }
    graph_.parameters.push_back(std::move(parameter));
  }

  static StorageComponent parse_storage(Line& line) {
    // component:format:value type; the value's name may hold colons.
    const std::string text = line.word();
    const auto first = text.find(':');
    const auto second = first == std::string::npos ? first : text.find(':', first + 1);
    if (second == std::string::npos) line.fail("component:format:value");
    return {text.substr(0, first), text.substr(first + 1, second - first - 1),
            text.substr(second + 1), parse_type(line)};
  }

  static constexpr int kInherit = -2;
  Graph graph_;
};

}  // namespace

Graph parse_graph(std::string_view text) { return Parser().run(text); }

}  // namespace snug
