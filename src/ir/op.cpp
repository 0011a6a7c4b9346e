#include "ir/op.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "ir/builder.h"
#include "ir/op_rows.h"

namespace snug {
namespace {

constexpr std::size_t kOpCount = static_cast<std::size_t>(Op::count_);

using Table = std::array<const OpDef*, kOpCount>;

Table make_table() {
  Table table{};
  for (const auto rows : {rows::arithmetic(), rows::movement(), rows::products(), rows::linears(),
                          rows::packed_products(), rows::norms(), rows::attentions(),
                          rows::adapters(), rows::losses(), rows::steps(), rows::updates()}) {
    for (const OpDef& row : rows) {
      const auto index = static_cast<std::size_t>(row.op);
      check(table[index] == nullptr, "the op table has two rows '{}'", row.name);
      table[index] = &row;
    }
  }
  return table;
}

const Table& table() {
  static const Table rows = make_table();
  return rows;
}

std::string operand_text(const OpArguments& arguments) {
  std::string text;
  for (const TensorType* type : arguments.inputs) {
    if (!text.empty()) text += ", ";
    text += type == nullptr ? "absent" : type->to_string();
  }
  return text;
}

}  // namespace

const OpDef& op_def(Op op) {
  const auto index = static_cast<std::size_t>(op);
  check(index < kOpCount, "op number {} does not exist", index);
  check(table()[index] != nullptr, "op number {} has no row in the op table", index);
  return *table()[index];
}

std::optional<Op> op_from_name(std::string_view name) {
  const Table& rows = table();
  const auto it = std::find_if(rows.begin(), rows.end(), [&](const OpDef* row) {
    return row != nullptr && row->name == name;
  });
  if (it == rows.end()) return std::nullopt;
  return (*it)->op;
}

void check_operands(bool holds, const OpArguments& arguments) {
  if (holds) return;
  std::string attributes;
  for (const auto& [key, value] : arguments.attributes.items()) {
    attributes += attributes.empty() ? " {" : ", ";
    attributes += key + "=";
    attributes += std::visit([](const auto& v) { return fmt::format("{}", v); }, value);
  }
  if (!attributes.empty()) attributes += "}";
  internal_error("{}({}){}: the operands do not fit", op_def(arguments.op).name,
                 operand_text(arguments), attributes);
}

std::vector<TensorType> infer_types(const OpArguments& arguments) {
  const OpDef& def = op_def(arguments.op);
  const int count = static_cast<int>(arguments.inputs.size());
  check(count >= def.min_inputs && (def.max_inputs < 0 || count <= def.max_inputs),
        "{}({}) has {} operands", def.name, Late{[&] { return operand_text(arguments); }}, count);
  return def.infer(arguments);
}

RandomStream rounding_stream(const Attributes& attributes, std::int64_t draw) {
  const auto words = static_cast<std::uint64_t>(draw);
  return {.seed = static_cast<std::uint64_t>(attributes.integer("seed")),
          .stream = static_cast<std::uint64_t>(attributes.integer("stream")),
          .step = static_cast<std::uint32_t>(words),
          .part = static_cast<std::uint32_t>(words >> 32)};
}

RandomStream dropout_stream(const Attributes& attributes, std::int64_t draw, std::int32_t row) {
  RandomStream stream = rounding_stream(attributes, draw);
  stream.part = static_cast<std::uint32_t>(row);
  return stream;
}

std::uint32_t dropout_threshold(const Attributes& attributes) {
  return static_cast<std::uint32_t>(std::lround(attributes.real("rate") * 65536.0));
}

std::vector<const TensorType*> operand_types(const Graph& graph, const Node& node) {
  std::vector<const TensorType*> types;
  types.reserve(node.inputs.size());
  for (const ValueId id : node.inputs) {
    types.push_back(exists(id) ? &graph.value(id).type : nullptr);
  }
  return types;
}

OpCost cost_of(const Graph& graph, const Node& node) {
  const auto inputs = operand_types(graph, node);
  std::vector<TensorType> outputs;
  outputs.reserve(node.outputs.size());
  for (const ValueId id : node.outputs) {
    outputs.push_back(exists(id) ? graph.value(id).type : TensorType{DType::u8, {0}});
  }
  return op_def(node.op).cost({node.op, inputs, node.attributes}, outputs);
}

namespace rows {

const TensorType& in(const OpArguments& a, std::size_t i) {
  check_operands(has(a, i), a);
  return *a.inputs[i];
}

DType dtype_or(const OpArguments& a, DType fallback) {
  return a.attributes.has("dtype") ? a.attributes.dtype() : fallback;
}

bool is_row_indices(const OpArguments& a, std::size_t i, std::int64_t rows) {
  return in(a, i) == TensorType{DType::i32, {rows}};
}

bool is_scalar(const OpArguments& a, std::size_t i) { return in(a, i).shape.rank() == 0; }

void check_accumulator(const OpArguments& a, std::size_t i, const TensorType& output) {
  if (has(a, i)) check_operands(*a.inputs[i] == output, a);
  if (has(a, i + 1)) {
    check_operands(*a.inputs[i + 1] == TensorType{DType::i64, {}}, a);
    check_operands(a.attributes.has("seed") && a.attributes.has("stream"), a);
  }
}

std::int64_t traffic(const OpArguments& a, std::span<const TensorType> outputs) {
  std::int64_t bytes = 0;
  for (const TensorType* type : a.inputs) bytes += type == nullptr ? 0 : type->bytes();
  for (const TensorType& type : outputs) bytes += type.bytes();
  return bytes;
}

OpCost cost_elementwise(const OpArguments& a, std::span<const TensorType> outputs) {
  return {outputs.front().shape.elements(), traffic(a, outputs)};
}

OpCost cost_movement(const OpArguments& a, std::span<const TensorType> outputs) {
  return {0, traffic(a, outputs)};
}

OpCost cost_nothing(const OpArguments&, std::span<const TensorType>) { return {}; }

const std::string& node_name(const Builder& builder, const Node& node) {
  return builder.graph().value(node.outputs.front()).name;
}

std::string backward_name(const GradientContext& context) {
  return node_name(context.builder, context.node) + ".backward";
}

std::vector<ValueId> accumulate_gradient(GradientContext& context, int i, Op op,
                                         std::vector<ValueId> operands, const Attributes& extra) {
  Attributes attributes = extra;
  const Attributes own = context.gradient_attributes(i);
  for (const auto& [key, value] : own.items()) attributes.set(key, value);
  const ValueId partial = context.partial(i);
  if (exists(partial)) {
    operands.push_back(partial);
    const ValueId draw = context.draw(attributes.dtype());
    if (exists(draw)) operands.push_back(draw);
    context.took_partial(i);
  }
  std::vector<ValueId> results =
      context.builder.emit(op, std::move(operands), std::move(attributes), backward_name(context));
  context.input_gradients[static_cast<std::size_t>(i)] = results.back();
  return results;
}

}  // namespace rows
}  // namespace snug
