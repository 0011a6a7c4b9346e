#pragma once
// Conversations as text, by a model's template.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "data/rows.h"

namespace snug {

/// The first messages of a row, and whether the words that ask for an answer follow.
struct ChatPrefix {
  std::size_t messages = 0;
  bool generation_prompt = false;
};

struct RenderedChat {
  std::string text;
  /// Bytes [first, second) of `text` that the template marks as the assistant's; empty where it
  /// marks none.
  std::vector<std::pair<std::size_t, std::size_t>> generations;
};

class ChatTemplate {
 public:
  virtual ~ChatTemplate() = default;
  /// The text of each of `wanted`, as transformers' apply_chat_template has it. UserError that
  /// begins with `place` where the template refuses the row, takes too long or too much memory.
  virtual std::vector<RenderedChat> render(const ChatRow& row, std::span<const ChatPrefix> wanted,
                                           const std::string& place) = 0;
  /// What messages call it: a file or a name.
  virtual std::string name() const = 0;
};

}  // namespace snug
