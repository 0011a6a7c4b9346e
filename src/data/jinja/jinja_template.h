#pragma once
// Chat templates rendered by Jinja2 itself, in a helper process.

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "data/chat_template.h"

namespace snug {

/// A template's texts and where they come from.
struct TemplateSource {
  std::string name;  ///< a file, or a template's name
  /// By name: `default`, and `tool_use` where rows with tools have one of their own.
  std::map<std::string, std::string> texts;
  bool empty() const { return texts.empty(); }
};

/// The template that `setting` means (a file, one of the known names, or the text itself), or,
/// where it is empty, the folder's own: chat_template.jinja with additional_chat_templates, else
/// tokenizer_config.json's chat_template (text or a list of named ones). Empty where there is none.
/// UserError for a setting that is neither.
TemplateSource find_chat_template(const std::string& setting,
                                  const std::filesystem::path& model_folder);

/// A renderer of that template, with the folder's special tokens as its variables; null where there
/// is no template. Python is looked for when the first row is rendered.
std::unique_ptr<ChatTemplate> open_chat_template(const std::string& setting,
                                                 const std::filesystem::path& model_folder);

}  // namespace snug
