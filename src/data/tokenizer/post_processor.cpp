#include "data/tokenizer/post_processor.h"

#include "core/error.h"

namespace snug {
PostProcessor PostProcessor::from_json(const JsonView& view, int64_t id_end) {
  PostProcessor processor;
  processor.read(view, id_end);
  return processor;
}

void PostProcessor::read(const JsonView& view, int64_t id_end) {
  const std::string type = view.at("type").text();
  if (type == "Sequence") {
    for (const JsonView& part : view.at("processors").elements()) read(part, id_end);
  } else if (type == "TemplateProcessing") {
    if (has_template_) view.fail("is a second TemplateProcessing; snug reads one.");
    has_template_ = true;
    read_template(view, id_end);
  } else if (type != "ByteLevel") {
    view.fail(fmt::format(
        "has the type '{}'; snug reads TemplateProcessing, ByteLevel and Sequence.", type));
  }
}

void PostProcessor::read_template(const JsonView& view, int64_t id_end) {
  parts_.clear();
  for (const JsonView& piece : view.at("single").elements()) {
    if (const auto sequence = piece.find("Sequence")) {
      if (sequence->at("id").text() != "A")
        sequence->fail("must have the id A: there is one text.");
      parts_.push_back({true, {}});
      continue;
    }
    const JsonView special = piece.at("SpecialToken");
    const auto token = view.at("special_tokens").find(special.at("id").text());
    if (!token) {
      special.fail(
          fmt::format("names '{}', which is not in 'special_tokens'.", special.at("id").text()));
    }
    Part part{false, {}};
    for (const JsonView& id : token->at("ids").elements()) {
      part.ids.push_back(static_cast<int32_t>(id.whole(id_end - 1)));
    }
    parts_.push_back(std::move(part));
  }
}

std::vector<int32_t> PostProcessor::run(std::vector<int32_t> text, bool add_special_tokens) const {
  if (parts_.size() == 1 && parts_[0].text) return text;
  std::vector<int32_t> ids;
  ids.reserve(text.size() + parts_.size());
  for (const Part& part : parts_) {
    if (part.text) {
      ids.insert(ids.end(), text.begin(), text.end());
    } else if (add_special_tokens) {
      ids.insert(ids.end(), part.ids.begin(), part.ids.end());
    }
  }
  return ids;
}

}  // namespace snug
