#include "data/rows.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "data/data_files.h"
#include "data/row_columns.h"

namespace snug {
namespace {

/// Columns of what snug's models do not take in.
constexpr std::array<std::string_view, 7> kOtherMedia = {"images", "image", "videos",      "video",
                                                         "audios", "audio", "pixel_values"};

std::optional<RowLayout> detect(const RowColumns& columns) {
  const auto has = [&](std::string_view name) { return columns.has(name); };
  if (has("input_ids")) return RowLayout::tokens;
  if (has("chosen") && has("rejected")) return RowLayout::preference;
  if (has("preferred_output") && has("non_preferred_output")) return RowLayout::preference;
  if (has("messages") || has("conversations")) return RowLayout::messages;
  if (has("prompt") && has("completion")) {
    if (columns.is_bool("label")) return RowLayout::unpaired;
    return columns.is_list("completion") ? RowLayout::messages : RowLayout::prompt_completion;
  }
  if (has("prompt") && has("completions")) return RowLayout::stepwise;
  if (has("instruction") && has("output")) return RowLayout::alpaca;
  if (has("text")) return RowLayout::text;
  return std::nullopt;
}

void refuse_other_media(const RowColumns& columns) {
  for (const std::string_view name : kOtherMedia) {
    const auto value = columns.find(name);
    if (!value || *value == "\"\"") continue;
    if (columns.is_list(name) && json_elements(*value, columns.place()).empty()) continue;
    user_error("{}: '{}' is given, and snug trains on text only. Leave these rows out.",
               columns.place(), name);
  }
}

ChatRow messages_row(const RowColumns& columns, const DataSettings& settings) {
  const bool parts = !columns.has("messages") && !columns.has("conversations");
  return parts ? chat_completion_row(columns, settings) : chat_row(columns, settings);
}

}  // namespace

std::string_view name_of(RowLayout layout) {
  switch (layout) {
    case RowLayout::text:
      return "text";
    case RowLayout::prompt_completion:
      return "prompt and completion";
    case RowLayout::tokens:
      return "pre-tokenised";
    case RowLayout::messages:
      return "messages";
    case RowLayout::alpaca:
      return "alpaca";
    case RowLayout::preference:
      return "preference";
    case RowLayout::unpaired:
      return "unpaired preference";
    case RowLayout::stepwise:
      return "stepwise supervision";
  }
  return "?";
}

DataRow parse_row(std::string_view json, std::string place, const DataSettings& settings) {
  json.remove_prefix(std::min(json.find_first_not_of(" \t\r\n"), json.size()));
  if (!json.starts_with('{')) {
    user_error("{}: the row is {}, expected an object.", place, json_kind(json));
  }
  const RowColumns columns(json, place, settings);
  const auto layout = detect(columns);
  if (!layout) {
    user_error(
        "{}: no known layout in the keys ({}). A row has messages or conversations; prompt and "
        "completion; instruction and output; input_ids; or text. columns={{text: NAME}} says "
        "what they are called here.",
        place, columns.names());
  }
  refuse_other_media(columns);
  DataRow row{TextRow{}, *layout, std::move(place)};
  switch (*layout) {
    case RowLayout::text:
      row.content = TextRow{columns.text("text")};
      break;
    case RowLayout::prompt_completion:
      row.content = CompletionRow{columns.text("prompt"), columns.text("completion")};
      break;
    case RowLayout::tokens:
      row.content = token_row(columns, settings.train_on);
      break;
    case RowLayout::messages:
      row.content = messages_row(columns, settings);
      break;
    case RowLayout::alpaca:
      row.content = alpaca_row(columns);
      break;
    case RowLayout::preference:
    case RowLayout::unpaired:
    case RowLayout::stepwise:
      row.content = UntrainedRow{std::string(json)};
      break;
  }
  return row;
}

namespace {

/// The rows of one source: their layout is the first row's.
class Source {
 public:
  Source(const DataSettings& settings, const std::function<void(DataRow&&)>& row)
      : settings_(settings), row_(row) {}

  void take(const RawRow& raw) {
    if (!raw.error.empty()) throw UserError(raw.error);
    if (raw.kind == FileKind::text) {
      return row_({TextRow{std::string(raw.text), true}, RowLayout::text, raw.place});
    }
    DataRow row = parse_row(raw.text, raw.place, settings_);
    if (!layout_) {
      layout_ = row.layout;
      first_ = row.place;
    } else if (*layout_ != row.layout) {
      user_error(
          "{}: a row of layout {} among rows of layout {}, as {} is. Put them into files of "
          "their own.",
          row.place, name_of(row.layout), name_of(*layout_), first_);
    }
    row_(std::move(row));
  }

 private:
  const DataSettings& settings_;
  const std::function<void(DataRow&&)>& row_;
  std::optional<RowLayout> layout_;
  std::string first_;
};

}  // namespace

void read_rows(const std::vector<std::string>& sources, const DataSettings& settings,
               const std::function<void(DataRow&&)>& row,
               const std::function<void(const std::string& error)>& bad) {
  for (const std::string& name : sources) {
    Source source(settings, row);
    for (const std::string& file : find_data_files({name})) {
      read_raw_rows(file, [&](const RawRow& raw) {
        if (!bad) return source.take(raw);
        try {
          source.take(raw);
        } catch (const UserError& error) {
          bad(error.what());
        }
      });
    }
  }
}

}  // namespace snug
