#include <cmath>

#include "ir/op.h"
#include "ir/text.h"

namespace snug {
namespace {

std::string print_attribute(const AttributeValue& value) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return fmt::format("{}", *integer);
  if (const auto* real = std::get_if<double>(&value)) {
    const std::string text = fmt::format("{}", *real);
    // A real keeps a mark of being one, so that it parses as one.
    return text.find_first_of(".einf") == std::string::npos ? text + ".0" : text;
  }
  return fmt::format("\"{}\"", std::get<std::string>(value));
}

std::string print_operand(const Graph& graph, ValueId id) {
  return exists(id) ? "%" + graph.value(id).name : "_";
}

std::string print_operands(const Graph& graph, const std::vector<ValueId>& ids) {
  std::string text;
  for (const ValueId id : ids) text += (text.empty() ? "" : ", ") + print_operand(graph, id);
  return text;
}

/// Type and what differs from the defaults.
std::string print_value(const Graph& graph, const Value& value, int default_layer) {
  std::string text = value.type.to_string();
  if (value.role != Role::activation) text += fmt::format(" {}", name_of(value.role));
  if (value.scope != Scope::call) text += fmt::format(" {}", name_of(value.scope));
  if (value.space != Space::device) text += fmt::format(" {}", name_of(value.space));
  if (exists(value.base)) text += " base=" + print_operand(graph, value.base);
  if (value.offset != 0) text += fmt::format(" offset={}", value.offset);
  if (value.row_stride != 0) text += fmt::format(" stride={}", value.row_stride);
  if (value.layer != default_layer) text += fmt::format(" layer={}", value.layer);
  return text;
}

std::string print_node(const Graph& graph, const Node& node) {
  std::string text = fmt::format("{} = {}({})", print_operands(graph, node.outputs),
                                 op_def(node.op).name, print_operands(graph, node.inputs));
  if (!node.attributes.items().empty()) {
    std::string items;
    for (const auto& [key, value] : node.attributes.items()) {
      items += fmt::format("{}{}={}", items.empty() ? "" : ", ", key, print_attribute(value));
    }
    text += " {" + items + "}";
  }
  text += " : ";
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    if (i > 0) text += "; ";
    text += print_value(graph, graph.value(node.outputs[i]), node.layer);
  }
  text += fmt::format(" @ {}", name_of(node.phase));
  if (node.layer >= 0) text += fmt::format(" layer={}", node.layer);
  if (node.lane != Lane::compute) text += fmt::format(" {}", name_of(node.lane));
  return text;
}

std::string print_parameter(const Parameter& p) {
  std::string text = fmt::format("parameter {} {}", p.name, p.type.to_string());
  if (p.trainable) text += " trainable";
  if (p.decay) text += " decay";
  if (p.initial == Initial::zeros) text += " zeros";
  if (p.initial == Initial::ones) text += " ones";
  text += fmt::format(" uses={}", p.uses);
  if (p.layer >= 0) text += fmt::format(" layer={}", p.layer);
  for (const std::string& name : p.tied_names) text += " tied=" + name;
  for (const StorageComponent& s : p.storage) {
    text += fmt::format(" storage={}:{}:{} {}", s.component, s.format, s.value, s.type.to_string());
  }
  return text;
}

}  // namespace

std::string print_graph(const Graph& graph) {
  std::string text = fmt::format("graph {}\n", graph.name());
  if (!graph.facts.empty()) text += fmt::format("facts {}\n", fmt::join(graph.facts, " "));
  for (const Parameter& parameter : graph.parameters) text += print_parameter(parameter) + "\n";
  const std::vector<std::int32_t> producers = graph.producers();
  for (std::int64_t v = 0; v < graph.value_count(); ++v) {
    if (producers[static_cast<std::size_t>(v)] >= 0) continue;
    const Value& value = graph.value(static_cast<ValueId>(v));
    text += fmt::format("input %{} {}\n", value.name, print_value(graph, value, -1));
  }
  for (const Node& node : graph.nodes) text += print_node(graph, node) + "\n";
  for (const ValueId id : graph.outputs) text += "output " + print_operand(graph, id) + "\n";
  return text;
}

}  // namespace snug
