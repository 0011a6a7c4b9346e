#include "passes/quantize.h"

#include <algorithm>
#include <array>
#include <map>
#include <string_view>

#include "ir/builder.h"
#include "ir/op.h"
#include "passes/name_patterns.h"

namespace snug {
namespace {

/// A packed matrix's values, in the order ops list them.
using PackedValues = std::array<ValueId, 4>;

/// Whether a listed module is this weight's, or holds it, or ends its path (transformers:
/// should_convert_module).
bool is_skipped(std::string_view weight, const std::vector<std::string>& skip) {
  const std::string_view path = weight.substr(0, weight.rfind('.'));
  return std::any_of(skip.begin(), skip.end(), [&](const std::string& module) {
    return path == module || path.ends_with(module) || path.starts_with(module + ".");
  });
}

/// The model's own weights of linear layers, by value.
std::map<ValueId, Parameter*> linear_weights(Graph& graph, const QuantizationOptions& options) {
  std::map<ValueId, Parameter*> by_value;
  for (Parameter& parameter : graph.parameters) {
    const bool listed = parameter.owner == Owner::model && parameter.layer >= 0 &&
                        parameter.type.shape.rank() == 2 &&
                        parameter.storage.front().format == "plain" &&
                        !is_skipped(parameter.name, options.skip);
    if (listed) by_value[graph.find(parameter.name)] = &parameter;
  }
  std::map<ValueId, Parameter*> linear;
  for (const Node& node : graph.nodes) {
    if (node.op != Op::linear) continue;
    const auto found = by_value.find(node.inputs[1]);
    if (found != by_value.end()) linear.insert(*found);
  }
  return linear;
}

class Packer {
 public:
  Packer(Graph& graph, const QuantizationOptions& options)
      : graph_(graph), format_(packed_format(options)), nested_(options.double_quant) {}

  /// Declares the packed storage of a parameter in place of its plain value.
  PackedValues pack(Parameter& parameter) {
    const Shape shape = parameter.type.shape;
    const std::int64_t scales = packed_scales(format_, shape[0], shape[1]);
    const bool nested = nested_ && is_four_bit(format_);
    graph_.rename_value(graph_.find(parameter.name), graph_.fresh_name(parameter.name + ".plain"));
    parameter.storage.clear();
    const DType code = is_four_bit(format_) ? DType::u8 : DType::i8;
    PackedValues values{kNoValue, kNoValue, kNoValue, kNoValue};
    values[0] = add(parameter, "weight", Role::weight,
                    {code, {packed_code_bytes(format_, shape.elements())}});
    values[1] =
        add(parameter, "scales", Role::quant_state, {nested ? DType::u8 : DType::f32, {scales}});
    if (!nested) return values;
    values[2] =
        add(parameter, "nested_scales", Role::quant_state, {DType::f32, {nested_scales(scales)}});
    values[3] = add(parameter, "nested_offset", Role::quant_state, {DType::f32, Shape{}});
    return values;
  }

  /// `linear` (x, w, bias?, acc?) on packed values.
  Node packed_linear(const Node& linear, const PackedValues& values, std::int64_t rows) const {
    Node node = linear;
    node.op = Op::packed_linear;
    node.inputs = {linear.inputs[0], values[0], values[1], values[2], values[3]};
    for (std::size_t i = 2; i < linear.inputs.size(); ++i) node.inputs.push_back(linear.inputs[i]);
    node.attributes.set("format", std::string(name_of(format_)));
    node.attributes.set("rows", rows);
    return node;
  }

  /// The matrix itself, for what is no product with it.
  ValueId dequantized(Builder& builder, const PackedValues& values, const TensorType& type,
                      const std::string& name) const {
    return builder.one(Op::dequantize, {values.begin(), values.end()},
                       {{"format", std::string(name_of(format_))},
                        {"shape", shape_text(type.shape)},
                        {"dtype", std::string(name_of(type.dtype))}},
                       name + ".dequantized");
  }

 private:
  ValueId add(Parameter& parameter, const std::string& component, Role role, TensorType type) {
    const std::string name =
        component == "weight" ? parameter.name : parameter.name + "." + component;
    parameter.storage.push_back({component, std::string(name_of(format_)), name, type});
    return graph_.add_value(
        {.name = name, .type = type, .role = role, .scope = Scope::run, .layer = parameter.layer});
  }

  Graph& graph_;
  PackedFormat format_;
  bool nested_;
};

std::string module_of(const Parameter& parameter) {
  return parameter.name.substr(0, parameter.name.rfind('.'));
}

/// What is trained over a quantised base is saved beside it, as an adapter's folder is.
void refuse_training(Graph& graph, const QuantizationOptions& options) {
  const auto weights = linear_weights(graph, options);
  if (weights.empty()) return;
  const auto is_trained = [](const Parameter& parameter) {
    return parameter.trainable && parameter.owner == Owner::model;
  };
  const char* key = options.load_in_8bit ? "load_in_8bit" : "load_in_4bit";
  const auto packed = std::find_if(weights.begin(), weights.end(),
                                   [&](const auto& w) { return is_trained(*w.second); });
  if (packed != weights.end()) {
    user_error(
        "{}=true: quantised weights cannot be trained, and '{}' would be. Nearest: "
        "finetuning_type=lora {}=true, with modules_to_save={} where it is to be trained in full.",
        key, packed->second->name, key, last_parts(module_of(*packed->second)));
  }
  const auto other = std::find_if(graph.parameters.begin(), graph.parameters.end(), is_trained);
  if (other == graph.parameters.end()) return;
  user_error(
      "{}=true: a model is not saved with a part of it quantised, and '{}' would be trained. "
      "Nearest: finetuning_type=lora {}=true modules_to_save={}, which saves it with an adapter.",
      key, other->name, key, last_parts(module_of(*other)));
}

Graph run(Graph graph, const QuantizationOptions& options) {
  if (options.load_in_4bit && options.load_in_8bit) {
    user_error("load_in_4bit and load_in_8bit are both true. Keep one.");
  }
  refuse_training(graph, options);
  Packer packer(graph, options);
  std::map<ValueId, std::pair<PackedValues, TensorType>> packed;
  for (const auto& [value, parameter] : linear_weights(graph, options)) {
    packed[value] = {packer.pack(*parameter), parameter->type};
  }
  const std::vector<Node> before = std::move(graph.nodes);
  graph.nodes.clear();
  Builder builder(graph);
  for (const Node& node : before) {
    Node after = node;
    if (node.op == Op::linear && packed.contains(node.inputs[1])) {
      const auto& [values, type] = packed.at(node.inputs[1]);
      after = packer.packed_linear(node, values, type.shape[0]);
    }
    builder.set_layer(node.layer);
    builder.set_phase(node.phase);
    for (ValueId& id : after.inputs) {
      const auto found = packed.find(id);
      if (found == packed.end()) continue;
      const auto& [values, type] = found->second;
      id = packer.dequantized(builder, values, type, graph.value(values[0]).name);
    }
    graph.nodes.push_back(std::move(after));
  }
  graph.remove_dead();
  return graph;
}

}  // namespace

bool quantizes(const QuantizationOptions& options) {
  return options.load_in_4bit || options.load_in_8bit;
}

PackedFormat packed_format(const QuantizationOptions& options) {
  if (options.load_in_8bit) return PackedFormat::int8;
  return options.type == FourBitType::nf4 ? PackedFormat::nf4 : PackedFormat::fp4;
}

std::string describe_base(const QuantizationOptions& options) {
  if (!quantizes(options)) return {};
  const PackedFormat format = packed_format(options);
  const bool nested = is_four_bit(format) && options.double_quant;
  return fmt::format(", {} base{}", name_of(format), nested ? ", double quantised" : "");
}

QuantizationOptions quantization_of(const StoredQuantization& stored) {
  return {.load_in_4bit = is_four_bit(stored.format),
          .load_in_8bit = !is_four_bit(stored.format),
          .type = stored.format == PackedFormat::fp4 ? FourBitType::fp4 : FourBitType::nf4,
          .double_quant = stored.double_quant,
          .skip = stored.skip};
}

Pass quantize_pass(const QuantizationOptions& options) {
  Pass pass{.name = "quantize",
            .needs = {facts::kTyped},
            .gives = {},
            .breaks = {},
            .equality = quantizes(options) ? Equality::changed : Equality::exact,
            .run = [options](Graph graph) { return run(std::move(graph), options); }};
  if (!quantizes(options)) pass.run = nullptr;
  return pass;
}

}  // namespace snug
