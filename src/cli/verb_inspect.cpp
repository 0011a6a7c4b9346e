#include <fmt/ostream.h>

#include <bit>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

#include "cli/verbs.h"
#include "core/error.h"
#include "core/text.h"
#include "data/batches.h"
#include "data/packing.h"
#include "io/adapter_files.h"
#include "io/model_files.h"
#include "plan/recipe_text.h"
#include "train/generator.h"
#include "train/run_setup.h"

namespace snug {
namespace {

using Json = nlohmann::ordered_json;

/// A stretch of a row that is trained, or is not.
struct Segment {
  bool trained = false;
  std::string text;
};

/// A row as it will be trained.
struct ShownRow {
  std::string place;
  RowLayout layout = RowLayout::text;
  std::int64_t tokens = 0;
  std::int64_t trained = 0;
  std::vector<Segment> segments;
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> mask;  // 1 where trained
  bool untrained = false;          // of a layout that no loss of this version trains on
};

/// One token's text: decoded behind those before it, or its number where there is no tokenizer.
std::string token_text(StreamDecoder* decoder, std::int32_t id) {
  return decoder != nullptr ? decoder->push(id) : fmt::format(" {}", id);
}

ShownRow show_row(const DataRow& row, const RowEncoder& encoder) {
  if (const auto* other = std::get_if<UntrainedRow>(&row.content)) {
    return {row.place, row.layout, 0, 0, {{false, other->json}}, {}, {}, true};
  }
  // What a data set makes of it: cut, and split into documents, as it is trained.
  Dataset alone;
  const EncodedRow encoded = encode_row(row, encoder);
  alone.add(encoded, encoder.rules, row.place);
  const bool kept = alone.size() > 0;
  const std::span<const std::int32_t> ids = kept ? alone.ids(0) : encoded.tokens.ids;
  ShownRow shown{row.place, row.layout, static_cast<std::int64_t>(ids.size()), 0, {}, {},
                 {},        false};
  std::optional<StreamDecoder> decoder;
  if (encoder.tokenizer != nullptr) decoder.emplace(*encoder.tokenizer, false);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const bool trained = kept && i > 0 && alone.labels(0)[i - 1] >= 0;
    if (trained) ++shown.trained;
    shown.ids.push_back(ids[i]);
    shown.mask.push_back(trained ? 1 : 0);
    if (shown.segments.empty() || shown.segments.back().trained != trained) {
      shown.segments.push_back({trained, ""});
    }
    shown.segments.back().text += token_text(decoder ? &*decoder : nullptr, ids[i]);
  }
  if (decoder && !shown.segments.empty()) shown.segments.back().text += decoder->finish();
  return shown;
}

std::string marked(const ShownRow& row, bool color) {
  std::string text;
  for (const Segment& segment : row.segments) {
    if (!segment.trained) {
      text += segment.text;
    } else {
      text += color ? fmt::format("\x1b[32m{}\x1b[0m", segment.text)
                    : fmt::format("⟦{}⟧", segment.text);
    }
  }
  return text;
}

/// The first rows, as many as are to be shown.
std::vector<ShownRow> first_rows(const Settings& settings, const RowEncoder& encoder) {
  std::vector<ShownRow> shown;
  struct Enough : std::exception {};
  const auto show = [&](DataRow&& row) {
    if (static_cast<std::int64_t>(shown.size()) >= settings.inspect.rows) throw Enough{};
    shown.push_back(show_row(row, encoder));
  };
  std::function<void(const std::string&)> bad;
  if (settings.data.bad_rows == BadRows::skip) bad = [](const std::string&) {};
  try {
    read_rows(settings.data.train_files, settings.data, show, bad);
  } catch (const Enough&) {
    return shown;  // the rest of the files is not read
  }
  return shown;
}

/// Rows by length, in as many classes as there are powers of two.
std::vector<std::pair<std::int64_t, std::int64_t>> lengths_of(const Dataset& data) {
  std::map<std::int64_t, std::int64_t> rows;
  for (std::int64_t row = 0; row < data.size(); ++row) {
    ++rows[static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(data.length(row))))];
  }
  return {rows.begin(), rows.end()};
}

/// The share of padding where every row is padded to its bucket.
double padding_share(const Dataset& data, const std::vector<std::int64_t>& buckets) {
  std::int64_t padded = 0;
  std::int64_t tokens = 0;
  for (std::int64_t row = 0; row < data.size(); ++row) {
    padded += buckets[static_cast<std::size_t>(bucket_of(buckets, data.length(row)))];
    tokens += data.length(row);
  }
  return padded == 0 ? 0 : 1 - static_cast<double>(tokens) / static_cast<double>(padded);
}

Json shown_json(const std::vector<ShownRow>& shown) {
  Json rows = Json::array();
  for (const ShownRow& row : shown) {
    Json segments = Json::array();
    for (const Segment& segment : row.segments) {
      segments.push_back({{"trained", segment.trained}, {"text", segment.text}});
    }
    rows.push_back({{"place", row.place},
                    {"layout", name_of(row.layout)},
                    {"tokens", row.tokens},
                    {"trained_tokens", row.trained},
                    {"segments", segments},
                    {"input_ids", row.ids},
                    {"trained", row.mask}});
  }
  return rows;
}

Json rows_json(const DataSource& data, const std::vector<std::int64_t>& buckets,
               const std::vector<ShownRow>& shown) {
  const DatasetCounts& counts = data.train.counts();
  Json json = {{"schema", 1},
               {"rows", counts.rows},
               {"tokens", counts.tokens},
               {"trained_tokens", counts.trained_tokens},
               {"cut", counts.cut},
               {"cut_tokens", counts.cut_tokens},
               {"dropped", counts.dropped},
               {"bad", counts.bad},
               {"bad_rows", counts.bad_rows},
               {"longest", counts.longest},
               {"sequences", data.train.size()},
               {"buckets", buckets},
               {"lengths", lengths_of(data.train)},
               {"padding_share", padding_share(data.train, buckets)},
               {"chat_template", data.chat ? Json(data.chat->name()) : Json()},
               {"eos_token_id", data.rules.eos < 0 ? Json() : Json(data.rules.eos)},
               {"shown", shown_json(shown)}};
  return json;
}

void print_json(const Json& json, Console& console) {
  fmt::print(console.out, "{}\n",
             json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

void print_row(const ShownRow& row, Console& console) {
  const bool color = console.out_terminal.color;
  const std::string head =
      fmt::format("{} · {} · {} tokens, {} trained{}", row.place, name_of(row.layout), row.tokens,
                  row.trained, row.trained == 0 ? " (dropped)" : "");
  fmt::print(console.out, "{}\n{}\n\n", console.out_terminal.bold(head), marked(row, color));
}

void print_totals(const Command& command, const DataSource& data,
                  const std::vector<std::int64_t>& buckets, Console& console) {
  const DatasetCounts& counts = data.train.counts();
  fmt::print(console.out, "trained: {}\n",
             console.out_terminal.color ? "green" : "between ⟦ and ⟧");
  fmt::print(console.out,
             "{} rows · {} tokens, {} trained · longest {} · {} cut at {} · {} dropped\n",
             group_digits(counts.rows), group_digits(counts.tokens),
             group_digits(counts.trained_tokens), group_digits(counts.longest),
             group_digits(counts.cut), group_digits(data.max_length), group_digits(counts.dropped));
  for (const std::string& remark : remarks_of(counts)) fmt::print(console.out, "{}\n", remark);
  if (data.chat) fmt::print(console.out, "template: {}\n", data.chat->name());
  if (data.tokenizer) {
    fmt::print(console.out, "end token: {}\n",
               data.rules.eos < 0 ? "none" : data.tokenizer->token_text(data.rules.eos));
  }
  if (command.settings.data.packing) {
    fmt::print(console.out, "{}\n", describe_packing(data.train));
  }
  for (const auto& [length, rows] : lengths_of(data.train)) {
    fmt::print(console.out, "  up to {:>7} tokens: {} rows\n", group_digits(length),
               group_digits(rows));
  }
  fmt::print(console.out, "padded to {} tokens · {:.1f} % padding\n", fmt::join(buckets, ", "),
             100 * padding_share(data.train, buckets));
}

void inspect_rows(const Command& command, const ModelSource& model, Console& console) {
  const DataSource first = open_encoder(command.settings, model);
  const auto shown = first_rows(command.settings, first.encoder());
  if (!command.json) {
    for (const ShownRow& row : shown) print_row(row, console);
  }
  const bool untrained = !shown.empty() && shown.front().untrained;
  if (untrained) {
    const std::string_view layout = name_of(shown.front().layout);
    if (command.json) {
      const Json json = {{"schema", 1}, {"layout", layout}, {"shown", shown_json(shown)}};
      print_json(json, console);
    } else {
      fmt::print(console.out, "rows of layout {}: no loss of this version trains on them\n",
                 layout);
    }
    return;
  }
  const DataSource data = open_data(command.settings, model);
  const auto buckets = choose_buckets(data.train, command.settings.data.bucket_count);
  if (command.json) {
    print_json(rows_json(data, buckets, shown), console);
    return;
  }
  print_totals(command, data, buckets, console);
}

/// Tensors and bytes of one stored type.
struct TypeSum {
  std::int64_t tensors = 0;
  std::int64_t bytes = 0;
};

std::map<std::string, TypeSum> sums_by_type(const ModelSource& model) {
  std::map<std::string, TypeSum> sums;
  if (model.folder.empty()) return sums;
  const ModelWeights weights(model.folder);
  for (const std::string_view name : weights.names()) {
    const TensorView& view = *weights.find(name);
    TypeSum& sum = sums[view.type_name];
    ++sum.tensors;
    sum.bytes += static_cast<std::int64_t>(view.bytes.size());
  }
  return sums;
}

/// An adapter's numbers and bytes.
struct AdapterSum {
  std::int64_t parameters = 0;
  std::int64_t bytes = 0;
};

AdapterSum sum_of(const AdapterWeights& adapter) {
  AdapterSum sum;
  for (const TensorView& view : adapter.file().tensors()) {
    std::int64_t elements = 1;
    for (const std::int64_t size : view.shape) elements *= size;
    sum.parameters += elements;
    sum.bytes += static_cast<std::int64_t>(view.bytes.size());
  }
  return sum;
}

/// `nf4, double quantised` of weights that are stored so.
std::string stored_text(const StoredQuantization& stored) {
  return fmt::format("{}{}", name_of(stored.format),
                     stored.double_quant ? ", double quantised" : "");
}

Json model_json(const ModelSource& model, const std::map<std::string, TypeSum>& sums) {
  const ModelConfig& config = model.config;
  Json json = {{"schema", 1},
               {"family", name_of(config.family)},
               {"parameters", parameter_count(config)},
               {"hidden_size", config.hidden_size},
               {"num_hidden_layers", config.num_hidden_layers},
               {"num_attention_heads", config.num_attention_heads},
               {"num_key_value_heads", config.num_key_value_heads},
               {"head_dim", config.head_dim},
               {"intermediate_size", config.intermediate_size},
               {"vocab_size", config.vocab_size},
               {"max_position_embeddings", config.max_position_embeddings},
               {"tie_word_embeddings", config.tie_word_embeddings},
               {"stop_tokens", stop_tokens(model)},
               {"tensors", Json::object()}};
  for (const auto& [type, sum] : sums) {
    json["tensors"][type] = {{"count", sum.tensors}, {"bytes", sum.bytes}};
  }
  if (config.quantization) {
    json["quantization"] = {{"format", name_of(config.quantization->format)},
                            {"double_quant", config.quantization->double_quant}};
  }
  return json;
}

void inspect_model(const Command& command, const ModelSource& model, Console& console) {
  const auto sums = sums_by_type(model);
  if (command.json) {
    Json json = model_json(model, sums);
    if (!model.adapter.empty()) {
      const AdapterSum sum = sum_of(AdapterWeights(model.adapter));
      json["adapter"] = {{"folder", model.adapter.string()},
                         {"kind", describe_tuning(command.settings)},
                         {"base", model.folder.string()},
                         {"parameters", sum.parameters},
                         {"bytes", sum.bytes}};
    }
    fmt::print(console.out, "{}\n", json.dump());
    return;
  }
  const ModelConfig& config = model.config;
  if (!model.adapter.empty()) {
    const AdapterSum sum = sum_of(AdapterWeights(model.adapter));
    fmt::print(console.out, "{} · {} · {} parameters, {}\n  base         {}\n",
               console.out_terminal.bold(model.adapter.string()), describe_tuning(command.settings),
               group_digits(sum.parameters), binary_bytes(sum.bytes), model.folder.string());
  }
  fmt::print(console.out, "{} · {} · {} parameters\n", console.out_terminal.bold(model.name),
             name_of(config.family), group_digits(parameter_count(config)));
  fmt::print(console.out, "  layers       {} of {} wide, MLP {}\n", config.num_hidden_layers,
             group_digits(config.hidden_size), group_digits(config.intermediate_size));
  fmt::print(console.out, "  attention    {} query, {} key/value heads of {}{}{}\n",
             config.num_attention_heads, config.num_key_value_heads, config.head_dim,
             config.attention_bias ? ", biases" : "", config.qk_norm ? ", norms on q and k" : "");
  fmt::print(console.out, "  vocabulary   {}{}\n", group_digits(config.vocab_size),
             config.tie_word_embeddings ? ", head tied to the embedding" : "");
  fmt::print(console.out, "  positions    {}\n", group_digits(config.max_position_embeddings));
  fmt::print(console.out, "  stop tokens  {}\n", fmt::join(stop_tokens(model), ", "));
  if (config.quantization) {
    fmt::print(console.out, "  quantised    {}\n", stored_text(*config.quantization));
  }
  for (const auto& [type, sum] : sums) {
    fmt::print(console.out, "  {:<12} {} tensors, {}\n", type, group_digits(sum.tensors),
               binary_bytes(sum.bytes));
  }
}

}  // namespace

int run_inspect(const Command& command, Console& console) {
  const ModelSource model = open_model(command.settings.model);
  for (const std::string& note : model.notes) fmt::print(console.talk, "{}\n", note);
  if (command.settings.data.train_files.empty()) {
    inspect_model(command, model, console);
  } else {
    inspect_rows(command, model, console);
  }
  return kDone;
}

}  // namespace snug
