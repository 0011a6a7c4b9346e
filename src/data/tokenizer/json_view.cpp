#include "data/tokenizer/json_view.h"

#include "core/error.h"

namespace snug {

std::string_view kind_of(const nlohmann::json& value) {
  using Kind = nlohmann::json::value_t;
  switch (value.type()) {
    case Kind::null:
      return "null";
    case Kind::object:
      return "an object";
    case Kind::array:
      return "a list";
    case Kind::string:
      return "text";
    case Kind::boolean:
      return "true or false";
    default:
      return "a number";
  }
}

void JsonView::fail(std::string_view message) const {
  user_error("{}: '{}' {}", file_, path_.empty() ? "the file" : path_, message);
}

void JsonView::wrong_type(std::string_view expected) const {
  fail(fmt::format("is {}, expected {}.", kind_of(*value_), expected));
}

const nlohmann::json& JsonView::object() const {
  if (!value_->is_object()) wrong_type("an object");
  return *value_;
}

std::optional<JsonView> JsonView::find(std::string_view key) const {
  const auto& members = object();
  const auto found = members.find(key);
  if (found == members.end() || found->is_null()) return std::nullopt;
  return JsonView(*found, file_,
                  path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key));
}

JsonView JsonView::at(std::string_view key) const {
  if (auto member = find(key)) return *std::move(member);
  user_error("{}: '{}{}{}' is missing. Is the file complete?", file_, path_,
             path_.empty() ? "" : ".", key);
}

std::vector<JsonView> JsonView::elements() const {
  if (!value_->is_array()) wrong_type("a list");
  std::vector<JsonView> elements;
  elements.reserve(value_->size());
  for (const auto& element : *value_) {
    elements.emplace_back(element, file_, fmt::format("{}[{}]", path_, elements.size()));
  }
  return elements;
}

const std::string& JsonView::text() const {
  if (!value_->is_string()) wrong_type("text");
  return value_->get_ref<const std::string&>();
}

bool JsonView::boolean() const {
  if (!value_->is_boolean()) wrong_type("true or false");
  return value_->get<bool>();
}

int64_t JsonView::whole(int64_t highest) const {
  const auto limit = static_cast<uint64_t>(highest);
  if (!value_->is_number_unsigned() || value_->get<uint64_t>() > limit) {
    fail(fmt::format("is {}, expected a whole number from 0 to {}.",
                     value_->is_number() ? value_->dump() : kind_of(*value_), highest));
  }
  return static_cast<int64_t>(value_->get<uint64_t>());
}

}  // namespace snug
