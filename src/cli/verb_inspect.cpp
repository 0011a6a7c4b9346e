#include <fmt/ostream.h>

#include <map>
#include <nlohmann/json.hpp>

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
  std::int64_t tokens = 0;
  std::int64_t trained = 0;
  std::vector<Segment> segments;
};

/// One token's text: decoded behind those before it, or its number where there is no tokenizer.
std::string token_text(StreamDecoder* decoder, std::int32_t id) {
  return decoder != nullptr ? decoder->push(id) : fmt::format(" {}", id);
}

ShownRow show_row(const DataRow& row, const Tokenizer* tokenizer, const TokenRules& rules) {
  TokenRow tokens = tokenize_row(row, tokenizer, rules);
  const auto length = std::min(tokens.ids.size(), static_cast<std::size_t>(rules.max_length));
  ShownRow shown{row.place, static_cast<std::int64_t>(length), 0, {}};
  std::optional<StreamDecoder> decoder;
  if (tokenizer != nullptr) decoder.emplace(*tokenizer, false);
  for (std::size_t i = 0; i < length; ++i) {
    // The first token is predicted by nothing, so it is never trained.
    const bool trained = i > 0 && tokens.labels[i] >= 0;
    if (trained) ++shown.trained;
    if (shown.segments.empty() || shown.segments.back().trained != trained) {
      shown.segments.push_back({trained, ""});
    }
    shown.segments.back().text += token_text(decoder ? &*decoder : nullptr, tokens.ids[i]);
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

std::vector<ShownRow> first_rows(const Settings& settings, const DataSource& data,
                                 const TokenRules& rules) {
  std::vector<ShownRow> shown;
  const Tokenizer* tokenizer = data.tokenizer ? &*data.tokenizer : nullptr;
  std::int64_t left = settings.inspect.rows;
  read_rows(find_data_files(settings.data.train_files), [&](DataRow&& row) {
    if (left-- > 0) shown.push_back(show_row(row, tokenizer, rules));
  });
  return shown;
}

Json rows_json(const DatasetCounts& counts, std::int64_t sequences,
               const std::vector<std::int64_t>& buckets, const std::vector<ShownRow>& shown) {
  Json json = {{"schema", 1},
               {"rows", counts.rows},
               {"tokens", counts.tokens},
               {"trained_tokens", counts.trained_tokens},
               {"cut", counts.cut},
               {"dropped", counts.dropped},
               {"longest", counts.longest},
               {"sequences", sequences},
               {"buckets", buckets},
               {"shown", Json::array()}};
  for (const ShownRow& row : shown) {
    Json segments = Json::array();
    for (const Segment& segment : row.segments) {
      segments.push_back({{"trained", segment.trained}, {"text", segment.text}});
    }
    json["shown"].push_back({{"place", row.place},
                             {"tokens", row.tokens},
                             {"trained_tokens", row.trained},
                             {"segments", segments}});
  }
  return json;
}

void inspect_rows(const Command& command, const ModelSource& model, Console& console) {
  const DataSource data = open_data(command.settings, model);
  const DatasetCounts& counts = data.train.counts();
  const auto buckets = choose_buckets(data.train, command.settings.data.bucket_count);
  const auto shown =
      first_rows(command.settings, data, token_rules(command.settings, model.config));
  if (command.json) {
    fmt::print(console.out, "{}\n",
               rows_json(counts, data.train.size(), buckets, shown)
                   .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    return;
  }
  const bool color = console.out_terminal.color;
  for (const ShownRow& row : shown) {
    const std::string head = fmt::format("{} · {} tokens, {} trained{}", row.place, row.tokens,
                                         row.trained, row.trained == 0 ? " (dropped)" : "");
    fmt::print(console.out, "{}\n{}\n\n", console.out_terminal.bold(head), marked(row, color));
  }
  fmt::print(console.out, "trained: {}\n", color ? "green" : "between ⟦ and ⟧");
  fmt::print(console.out,
             "{} rows · {} tokens, {} trained · longest {} · {} cut at {} · {} dropped\n",
             group_digits(counts.rows), group_digits(counts.tokens),
             group_digits(counts.trained_tokens), group_digits(counts.longest),
             group_digits(counts.cut), group_digits(data.max_length), group_digits(counts.dropped));
  if (command.settings.data.packing) {
    fmt::print(console.out, "{}\n", describe_packing(data.train));
  }
  fmt::print(console.out, "padded to {} tokens\n", fmt::join(buckets, ", "));
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
