#pragma once
// Rows of training data, whatever layout their files have.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/settings.h"

namespace snug {

/// What the columns of a row say that it is.
enum class RowLayout {
  text,
  prompt_completion,
  tokens,    // input_ids and what goes with them
  messages,  // also conversations (ShareGPT), and prompt and completion as messages
  alpaca,
  preference,  // chosen and rejected
  unpaired,    // prompt, completion and a bool label
  stepwise,    // prompt and completions
};

/// `pre-tokenised`, `messages`: the layout in messages to people.
std::string_view name_of(RowLayout layout);

struct TextRow {
  std::string text;
  bool document = false;  ///< a whole file: cut into pieces where it is long
};
struct CompletionRow {
  std::string prompt;
  std::string completion;
};

/// labels are not shifted: labels[i] is ids[i] where it is trained, else -100.
struct TokenRow {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> labels;
  /// First tokens of documents that do not see each other, ascending from 0; empty: one document.
  std::vector<std::int32_t> documents = {};
};

struct ChatMessage {
  std::string json;  ///< an object with `role`, as templates expect it
  bool assistant = false;
  bool completion = false;       ///< stands in the row's completion
  std::optional<bool> weighted;  ///< by weight, loss_weight, train or masked: trained or not
};
/// JSON as it stands in the row, so that the order of keys and the spelling of numbers survive.
struct ChatRow {
  std::vector<ChatMessage> messages;
  std::string tools;   ///< a list; empty: none
  std::string kwargs;  ///< an object, of chat_template_kwargs; empty: none
};

/// A row of a layout that inspect shows and nothing trains on.
struct UntrainedRow {
  std::string json;
};

/// A row and where it stands, `data.jsonl:1042`.
struct DataRow {
  std::variant<TextRow, CompletionRow, TokenRow, ChatRow, UntrainedRow> content;
  RowLayout layout = RowLayout::text;
  std::string place;
};

/// One JSON object as a row. `columns` names the columns that are called otherwise. UserError that
/// begins with `place` for anything that is no row, and for a column whose meaning is not honoured.
DataRow parse_row(std::string_view json, std::string place, const DataSettings& settings);

/// The rows of the data files that `sources` name, in order. Every source (a file, folder, glob or
/// data set) has the layout of its first row. Where `bad` is given, a row that is malformed, of
/// another layout, or that `row` throws a UserError for goes there; else the error is thrown.
void read_rows(const std::vector<std::string>& sources, const DataSettings& settings,
               const std::function<void(DataRow&&)>& row,
               const std::function<void(const std::string& error)>& bad = {});

}  // namespace snug
