#include "ir/builder.h"

#include <array>
#include <charconv>

namespace snug {

ValueId Builder::input(std::string name, TensorType type, Role role, Scope scope, Space space) {
  return graph_.add_value({.name = std::move(name),
                           .type = type,
                           .space = space,
                           .role = role,
                           .scope = scope,
                           .layer = layer_});
}

namespace {

/// Space, role and layout of output `i` where the op fixes them.
void place(const Graph& graph, const Node& node, std::size_t i, Value& value) {
  if (node.op == Op::copy_start) {
    value.role = i == 0 ? graph.value(node.inputs[0]).role : Role::token;
    if (i == 0) value.space = enum_from_name<Space>(node.attributes.text("space"));
  } else if (node.op == Op::view) {
    value.offset = node.attributes.integer("offset");
    value.row_stride = node.attributes.integer_or("row_stride", 0);
  } else if (node.op == Op::reshape && value.row_stride != 0) {
    const Shape& from = graph.value(node.inputs[0]).type.shape;
    const Shape& to = value.type.shape;
    check(from.rank() > 0 && to.rank() > 0 && from[0] == to[0],
          "reshape of '{}' from {} to {} joins rows that do not touch",
          graph.value(node.inputs[0]).name, Late{[&] { return from.to_string(); }},
          Late{[&] { return to.to_string(); }});
  }
}

}  // namespace

std::vector<ValueId> Builder::emit(Op op, std::vector<ValueId> inputs, Attributes attributes,
                                   std::string_view name, int output_count) {
  const OpDef& def = op_def(op);
  Node node{op, std::move(inputs), {}, std::move(attributes), phase_, lane_, layer_};
  const auto types = operand_types(graph_, node);
  auto results = infer_types({op, types, node.attributes});
  if (output_count >= 0) results.resize(static_cast<std::size_t>(output_count));
  for (std::size_t i = 0; i < results.size(); ++i) {
    const std::string wanted = i == 0 ? std::string(name) : fmt::format("{}.out{}", name, i);
    Value value{
        .name = graph_.fresh_name(wanted), .type = results[i], .role = role_, .layer = layer_};
    for (const Aliasing& alias : def.aliasing) {
      if (!alias.must || alias.output != static_cast<int>(i)) continue;
      if (alias.input >= static_cast<int>(node.inputs.size())) continue;
      const ValueId source = node.inputs[static_cast<std::size_t>(alias.input)];
      if (!exists(source)) continue;
      const Value& from = graph_.value(source);
      value.base = source;
      value.row_stride = from.row_stride;
      value.role = from.role;
      value.scope = from.scope;
      value.space = from.space;
    }
    place(graph_, node, i, value);
    node.outputs.push_back(graph_.add_value(std::move(value)));
  }
  std::vector<ValueId> outputs = node.outputs;
  sink_.push_back(std::move(node));
  return outputs;
}

ValueId Builder::one(Op op, std::vector<ValueId> inputs, Attributes attributes,
                     std::string_view name) {
  return emit(op, std::move(inputs), std::move(attributes), name).front();
}

std::string shape_text(const Shape& shape) {
  return fmt::format("{}", fmt::join(shape.dims(), ","));
}

Shape shape_from_text(std::string_view text) {
  std::array<std::int64_t, Shape::kMaxRank> dims{};
  std::size_t rank = 0;
  while (!text.empty()) {
    check(rank < dims.size(), "a shape of more than {} dimensions", dims.size());
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), dims[rank++]);
    check(error == std::errc{}, "'{}' is not a shape", text);
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    if (!text.empty()) text.remove_prefix(1);
  }
  return Shape(std::span<const std::int64_t>(dims.data(), rank));
}

}  // namespace snug
