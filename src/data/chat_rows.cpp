// Conversations in the layouts of OpenAI, ShareGPT and Alpaca, as messages that templates take.
#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"
#include "data/row_columns.h"

namespace snug {
namespace {

/// The roles of published data sets as templates know them.
constexpr std::array<std::pair<std::string_view, std::string_view>, 15> kRoles = {{
    {"system", "system"},
    {"developer", "developer"},
    {"user", "user"},
    {"human", "user"},
    {"assistant", "assistant"},
    {"gpt", "assistant"},
    {"model", "assistant"},
    {"bot", "assistant"},
    {"chatgpt", "assistant"},
    {"function_call", "function_call"},
    {"tool", "tool"},
    {"observation", "tool"},
    {"ipython", "tool"},
    {"function", "tool"},
    {"tool_response", "tool"},
}};

/// Names of one thing: whether a message is trained.
constexpr std::array<std::string_view, 4> kWeights = {"weight", "loss_weight", "train", "masked"};

std::string json_quoted(std::string_view text) { return nlohmann::json(text).dump(); }

ChatMessage message_of(std::string_view role, std::string_view text) {
  ChatMessage message;
  message.json =
      fmt::format("{{\"role\": {}, \"content\": {}}}", json_quoted(role), json_quoted(text));
  message.assistant = role == "assistant";
  return message;
}

std::string_view known_role(const std::string& role, std::string_view where) {
  for (const auto& [name, ours] : kRoles) {
    if (name == role) return ours;
  }
  user_error(
      "{}: the role '{}' is not known. Roles are system, user (human), assistant (gpt, model, "
      "bot), tool (observation, function, ipython) and function_call.",
      where, role);
}

/// A weight of 0 or 1; the loss has no others.
bool weight_of(std::string_view name, std::string_view value, std::string_view where) {
  const bool on = value == "1" || value == "1.0" || value == "true";
  if (!on && value != "0" && value != "0.0" && value != "false") {
    user_error(
        "{}: '{}' is {}; a message is trained (1) or not (0), other weights are not in this "
        "version.",
        where, name, value);
  }
  return name == "masked" ? !on : on;
}

/// A list of parts is text only; other parts would be lost in templates without them.
void check_content(std::string_view content, std::string_view where) {
  if (!content.starts_with('[')) {
    if (content.starts_with('"')) return;
    user_error("{}: 'content' is {}, expected text.", where, json_kind(content));
  }
  for (const std::string_view part : json_elements(content, where)) {
    if (part.starts_with('"')) continue;
    std::string type;
    for (const auto& [name, value] : json_members(part, where)) {
      if (name == "type") type = json_text(value, where);
    }
    if (type != "text") {
      user_error("{}: the content has a part of type '{}'; snug trains on text only.", where, type);
    }
  }
}

/// The calls in the value of a `function_call` turn: one object or a list of them, as JSON text.
std::string tool_calls(std::string_view value, std::string_view where) {
  const std::string text = json_text(value, where);
  const bool several = text.find_first_not_of(" \t\r\n") != std::string::npos &&
                       text[text.find_first_not_of(" \t\r\n")] == '[';
  std::string calls;
  const auto add = [&](std::string_view call) {
    json_members(call, where);
    calls += fmt::format("{}{{\"type\": \"function\", \"function\": {}}}",
                         calls.empty() ? "" : ", ", call);
  };
  if (several) {
    for (const std::string_view call : json_elements(text, where)) add(call);
  } else {
    add(text);
  }
  return fmt::format("{{\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": [{}]}}", calls);
}

/// Names of a message's two members in this row's layout.
struct MessageNames {
  std::string role;
  std::string content;
};

/// Reads one message: its own members stay as they are where templates know them by these names.
ChatMessage read_message(std::string_view json, const MessageNames& names, std::string_view where) {
  if (!json.starts_with('{')) {
    user_error("{}: a message is {}, expected an object.", where, json_kind(json));
  }
  ChatMessage message;
  std::string_view known;
  std::string role;
  std::string_view content;
  std::string members;  // in their order: templates may print a message whole
  for (const auto& [name, value] : json_members(json, where)) {
    if (is_json_null(value)) continue;
    if (std::find(kWeights.begin(), kWeights.end(), name) != kWeights.end()) {
      message.weighted = weight_of(name, value, where);
      continue;
    }
    if (name == "function_call") {
      user_error("{}: 'function_call' is OpenAI's old form; write 'tool_calls'.", where);
    }
    if (!members.empty()) members += ", ";
    if (name == names.role) {
      role = json_text(value, where);
      known = known_role(role, where);
      members += fmt::format("\"role\": {}", json_quoted(known));
    } else if (name == names.content) {
      content = value;
      members += fmt::format("\"content\": {}", value);
    } else {
      members += fmt::format("{}: {}", json_quoted(name), value);
    }
  }
  if (known.empty()) user_error("{}: a message has no '{}'.", where, names.role);
  message.assistant = known == "assistant" || known == "function_call";
  if (known == "function_call") {
    message.json = tool_calls(content, where);
    return message;
  }
  if (!content.empty()) check_content(content, where);
  if (content.empty() && !message.assistant) {
    user_error("{}: a message of '{}' has no '{}'.", where, role, names.content);
  }
  message.json = fmt::format("{{{}}}", members);
  return message;
}

std::vector<ChatMessage> read_messages(const RowColumns& columns, std::string_view column,
                                       const MessageNames& names) {
  if (!columns.is_list(column)) columns.wrong_type(column, "a list of messages");
  std::vector<ChatMessage> messages;
  for (const std::string_view json : json_elements(*columns.find(column), columns.place())) {
    const std::string where = fmt::format("{}: '{}'[{}]", columns.place(), column, messages.size());
    messages.push_back(read_message(json, names, where));
  }
  if (messages.empty()) user_error("{}: '{}' is empty.", columns.place(), column);
  return messages;
}

/// What the row names, else what its first message has: role and content, or from and value.
MessageNames names_of(const RowColumns& columns, std::string_view column,
                      const DataSettings& settings) {
  MessageNames names{"role", "content"};
  const auto elements = columns.is_list(column)
                            ? json_elements(*columns.find(column), columns.place())
                            : std::vector<std::string_view>();
  if (!elements.empty() && elements.front().starts_with('{')) {
    bool from = false;
    bool role = false;
    for (const auto& [name, value] : json_members(elements.front(), columns.place())) {
      from = from || name == "from";
      role = role || name == "role";
    }
    if (from && !role) names = {"from", "value"};
  }
  for (const auto& [ours, theirs] : settings.columns.names) {
    if (ours == "role") names.role = theirs;
    if (ours == "content") names.content = theirs;
  }
  return names;
}

/// A list or an object of a column, or the JSON text of one; empty where there is nothing in it.
std::string json_of(const RowColumns& columns, std::string_view name, char open) {
  const auto raw = columns.find(name);
  if (!raw) return {};
  std::string json = raw->starts_with('"') ? columns.text(name) : std::string(*raw);
  json.erase(0, json.find_first_not_of(" \t\r\n"));
  if (json.empty()) return {};
  const std::string where = fmt::format("{}: '{}'", columns.place(), name);
  if (json.front() != open) columns.wrong_type(name, open == '[' ? "a list" : "an object");
  const bool empty =
      open == '[' ? json_elements(json, where).empty() : json_members(json, where).empty();
  return empty ? std::string() : json;
}

void read_extras(const RowColumns& columns, ChatRow& row) {
  if (columns.has("functions")) {
    user_error("{}: 'functions' is OpenAI's old form; write 'tools'.", columns.place());
  }
  row.tools = json_of(columns, "tools", '[');
  row.kwargs = json_of(columns, "chat_template_kwargs", '{');
}

/// Whether the first message is the system's.
bool begins_with_system(const ChatRow& row, const std::string& where) {
  for (const auto& [name, value] : json_members(row.messages.front().json, where)) {
    if (name == "role") return value == "\"system\"";
  }
  return false;
}

}  // namespace

ChatRow chat_row(const RowColumns& columns, const DataSettings& settings) {
  const std::string_view column = columns.has("messages") ? "messages" : "conversations";
  ChatRow row{read_messages(columns, column, names_of(columns, column, settings)), {}, {}};
  if (const std::string system = columns.text_or_empty("system"); !system.empty()) {
    if (begins_with_system(row, columns.place())) {
      user_error("{}: 'system' and a first message of the system.", columns.place());
    }
    row.messages.insert(row.messages.begin(), message_of("system", system));
  }
  read_extras(columns, row);
  return row;
}

ChatRow chat_completion_row(const RowColumns& columns, const DataSettings& settings) {
  ChatRow row{read_messages(columns, "prompt", names_of(columns, "prompt", settings)), {}, {}};
  for (ChatMessage& message :
       read_messages(columns, "completion", names_of(columns, "completion", settings))) {
    message.completion = true;
    row.messages.push_back(std::move(message));
  }
  read_extras(columns, row);
  return row;
}

ChatRow alpaca_row(const RowColumns& columns) {
  ChatRow row;
  const auto add = [&](std::string_view role, std::string_view text) {
    row.messages.push_back(message_of(role, text));
  };
  if (const std::string system = columns.text_or_empty("system"); !system.empty()) {
    add("system", system);
  }
  if (columns.has("history")) {
    if (!columns.is_list("history")) columns.wrong_type("history", "a list of pairs");
    for (const std::string_view pair : json_elements(*columns.find("history"), columns.place())) {
      if (!pair.starts_with('[') || json_elements(pair, columns.place()).size() != 2) {
        user_error("{}: 'history' holds {}, expected pairs of texts.", columns.place(), pair);
      }
      const auto texts = json_elements(pair, columns.place());
      add("user", json_text(texts[0], columns.place()));
      add("assistant", json_text(texts[1], columns.place()));
    }
  }
  const std::string instruction = columns.text("instruction");
  const std::string input = columns.text_or_empty("input");
  add("user",
      input.empty() || instruction.empty() ? instruction + input : instruction + "\n" + input);
  add("assistant", columns.text("output"));
  return row;
}

}  // namespace snug
