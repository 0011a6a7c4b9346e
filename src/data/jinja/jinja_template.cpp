#include "data/jinja/jinja_template.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "data/jinja/embedded.h"
#include "data/jinja/worker_process.h"
#include "io/file.h"

namespace snug {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::int64_t kLargestTemplate = 4 << 20;
constexpr std::int64_t kWorkerMemory = std::int64_t{1} << 30;  // address space of a helper

/// `SNUG_PYTHON`, an active environment's, PATH's and the system's interpreter, in this order.
std::vector<std::string> interpreters() {
  std::vector<std::string> found;
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing sets it
    return std::string(value == nullptr ? "" : value);
  };
  if (const std::string own = variable("SNUG_PYTHON"); !own.empty()) return {own};
  for (const char* name : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
    if (const std::string folder = variable(name); !folder.empty()) {
      found.push_back(folder + "/bin/python3");
    }
  }
  found.emplace_back("python3");
  found.emplace_back("/usr/bin/python3");
  return found;
}

Json special_tokens(const fs::path& folder) {
  Json tokens = Json::object();
  if (folder.empty()) return tokens;
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const fs::path file = folder / name;
    if (!fs::exists(file)) continue;
    const nlohmann::json config = parse_json(read_text(file), file.string());
    if (!config.is_object()) continue;
    for (const auto& [key, value] : config.items()) {
      if (!key.ends_with("_token") || tokens.contains(key)) continue;
      if (value.is_string()) tokens[key] = value.get<std::string>();
      if (value.is_object() && value.contains("content") && value["content"].is_string()) {
        tokens[key] = value["content"].get<std::string>();
      }
    }
  }
  return tokens;
}

/// Little-endian numbers and texts of an answer.
class AnswerReader {
 public:
  explicit AnswerReader(std::string_view bytes) : left_(bytes) {}
  std::uint32_t number() {
    std::uint32_t value = 0;
    std::memcpy(&value, take(4).data(), 4);
    return value;
  }
  std::string_view take(std::size_t count) {
    check(count <= left_.size(), "a template's answer ends too early");
    const std::string_view part = left_.substr(0, count);
    left_.remove_prefix(count);
    return part;
  }

 private:
  std::string_view left_;
};

RenderedChat read_rendering(AnswerReader& answer) {
  RenderedChat rendered;
  rendered.text = answer.take(answer.number());
  const std::uint32_t spans = answer.number();
  for (std::uint32_t i = 0; i < spans; ++i) {
    const std::size_t begin = answer.number();
    const std::size_t end = answer.number();
    check(begin <= end && end <= rendered.text.size(), "a generation's span is outside the text");
    if (begin < end) rendered.generations.emplace_back(begin, end);
  }
  return rendered;
}

std::string request_of(const ChatRow& row, std::span<const ChatPrefix> wanted) {
  std::string frame = "{\"messages\": [";
  for (const ChatMessage& message : row.messages) {
    if (frame.back() != '[') frame += ", ";
    frame += message.json;
  }
  frame +=
      fmt::format("], \"tools\": {}, \"kwargs\": {}, \"wanted\": [",
                  row.tools.empty() ? "null" : row.tools, row.kwargs.empty() ? "null" : row.kwargs);
  for (const ChatPrefix& prefix : wanted) {
    if (frame.back() != '[') frame += ", ";
    frame += fmt::format("[{}, {}]", prefix.messages, prefix.generation_prompt);
  }
  return frame + "]}";
}

class JinjaTemplate : public ChatTemplate {
 public:
  JinjaTemplate(TemplateSource source, Json tokens)
      : source_(std::move(source)), tokens_(std::move(tokens)) {}

  std::string name() const override { return source_.name; }

  std::vector<RenderedChat> render(const ChatRow& row, std::span<const ChatPrefix> wanted,
                                   const std::string& place) override {
    if (worker_ == nullptr) start();
    const WorkerProcess::Answer answer = ask(request_of(row, wanted), place);
    if (answer.status != 0) {
      user_error("{}: the template {} refuses the row: {}", place, source_.name, answer.payload);
    }
    AnswerReader reader(answer.payload);
    std::vector<RenderedChat> renderings(reader.number());
    check(renderings.size() == wanted.size(), "{} renderings for {}", renderings.size(),
          wanted.size());
    for (RenderedChat& rendering : renderings) rendering = read_rendering(reader);
    return renderings;
  }

 private:
  WorkerProcess::Answer ask(const std::string& frame, const std::string& place) {
    try {
      return worker_->ask(frame);
    } catch (const WorkerFailure& failure) {
      worker_.reset();
      if (failure.kind == WorkerFailure::Kind::too_slow) {
        user_error("{}: the template {} takes more than 20 seconds for this row.", place,
                   source_.name);
      }
      user_error("{}: the helper that renders the template {} ended at this row.", place,
                 source_.name);
    }
  }

  void start() {
    const Json setup = {
        {"templates", source_.texts}, {"tokens", tokens_}, {"memory", kWorkerMemory}};
    std::string tried;
    for (const std::string& python : interpreters()) {
      try {
        worker_ = std::make_unique<WorkerProcess>(python, setup.dump());
        return;
      } catch (const WorkerFailure& failure) {
        if (failure.kind == WorkerFailure::Kind::template_text) {
          user_error("{}: the chat template is not valid: {}", source_.name, failure.reason);
        }
        tried += fmt::format(
            "\n  {}: {}", python,
            failure.kind == WorkerFailure::Kind::too_slow ? "does not answer" : failure.reason);
      }
    }
    user_error(
        "chat templates need a python3 that imports Jinja2 (3.1 or later), and none was found:{}\n"
        "Install it (apt-get install python3-jinja2, or pip install jinja2), or name an "
        "interpreter in SNUG_PYTHON.",
        tried);
  }

  TemplateSource source_;
  Json tokens_;
  std::unique_ptr<WorkerProcess> worker_;
};

std::string named_text(const std::string& name) {
  for (const NamedTemplate& known : named_templates()) {
    if (known.name == name) return std::string(known.text);
  }
  return {};
}

TemplateSource template_of_setting(const std::string& setting) {
  std::error_code ignored;
  if (fs::is_regular_file(setting, ignored)) {
    return {setting, {{"default", read_text(setting, kLargestTemplate)}}};
  }
  if (std::string text = named_text(setting); !text.empty()) return {setting, {{"default", text}}};
  if (setting.find("{%") != std::string::npos || setting.find("{{") != std::string::npos) {
    return {"of chat_template", {{"default", setting}}};
  }
  std::vector<std::string_view> names;
  for (const NamedTemplate& known : named_templates()) names.push_back(known.name);
  user_error("chat_template={}: no such file, and no known name ({}).", setting,
             fmt::join(names, ", "));
}

TemplateSource template_of_config(const fs::path& file) {
  const nlohmann::json config = parse_json(read_text(file), file.string());
  const auto found = config.is_object() ? config.find("chat_template") : config.end();
  TemplateSource source{file.string(), {}};
  if (found == config.end() || found->is_null()) return source;
  if (found->is_string()) {
    source.texts["default"] = found->get<std::string>();
    return source;
  }
  for (const nlohmann::json& entry : *found) {
    const bool good = entry.is_object() && entry.contains("name") && entry["name"].is_string() &&
                      entry.contains("template") && entry["template"].is_string();
    if (!good) {
      user_error("{}: 'chat_template' is neither text nor a list of name and template.",
                 file.string());
    }
    source.texts[entry["name"].get<std::string>()] = entry["template"].get<std::string>();
  }
  if (!source.texts.contains("default")) {
    user_error("{}: 'chat_template' has no template named default. Give one: chat_template=FILE.",
               file.string());
  }
  return source;
}

TemplateSource template_of_folder(const fs::path& folder) {
  const fs::path own = folder / "chat_template.jinja";
  if (!fs::exists(own)) {
    const fs::path config = folder / "tokenizer_config.json";
    return fs::exists(config) ? template_of_config(config) : TemplateSource{};
  }
  TemplateSource source{own.string(), {{"default", read_text(own, kLargestTemplate)}}};
  const fs::path more = folder / "additional_chat_templates" / "tool_use.jinja";
  if (fs::exists(more)) source.texts["tool_use"] = read_text(more, kLargestTemplate);
  return source;
}

}  // namespace

TemplateSource find_chat_template(const std::string& setting, const fs::path& model_folder) {
  if (!setting.empty()) return template_of_setting(setting);
  return model_folder.empty() ? TemplateSource{} : template_of_folder(model_folder);
}

std::unique_ptr<ChatTemplate> open_chat_template(const std::string& setting,
                                                 const fs::path& model_folder) {
  TemplateSource source = find_chat_template(setting, model_folder);
  if (source.empty()) return nullptr;
  return std::make_unique<JinjaTemplate>(std::move(source), special_tokens(model_folder));
}

}  // namespace snug
