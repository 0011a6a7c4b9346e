#pragma once
// The `post_processor` of a tokenizer.json: the special tokens around a text.

#include <cstdint>
#include <span>
#include <vector>

#include "data/tokenizer/json_view.h"

namespace snug {

/// Immutable and safe to share between threads.
class PostProcessor {
 public:
  /// Adds nothing.
  PostProcessor() : parts_{{true, {}}} {}
  /// Reads TemplateProcessing (its `single` form), ByteLevel (which changes no ids) and a Sequence
  /// of them; any other type is a UserError that names it. Ids must be below `id_end`.
  static PostProcessor from_json(const JsonView& view, int64_t id_end);

  /// The ids of a text with the special tokens around them, or, without `add_special_tokens`, only
  /// those of the text.
  std::vector<int32_t> run(std::vector<int32_t> text, bool add_special_tokens) const;

 private:
  struct Part {
    bool text;                 // the text's ids, or
    std::vector<int32_t> ids;  // these
  };

  void read(const JsonView& view, int64_t id_end);
  void read_template(const JsonView& view, int64_t id_end);

  std::vector<Part> parts_;
  bool has_template_ = false;
};

}  // namespace snug
