#include "plan/kernel_choice.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <functional>

#include "passes/row_tiles.h"

namespace snug {
namespace {

const Node& node_of(const StepModule& module, std::int32_t program, std::int32_t node) {
  return module.programs[static_cast<std::size_t>(program)]
      .graph.nodes[static_cast<std::size_t>(node)];
}

/// Names of random streams differ from node to node; kernels read them in run() only.
bool counts(std::string_view attribute) {
  return std::find(kRunOnlyAttributes.begin(), kRunOnlyAttributes.end(), attribute) ==
         kRunOnlyAttributes.end();
}

class Hash {
 public:
  template <class T>
  void add(const T& value) {
    hash_ = hash_ * 0x9e3779b97f4a7c15ULL + std::hash<T>{}(value);
    hash_ ^= hash_ >> 29;
  }
  std::size_t get() const { return hash_; }

 private:
  std::size_t hash_ = 0;
};

void add_operands(Hash& hash, const Graph& graph, const std::vector<ValueId>& operands) {
  hash.add(operands.size());
  for (const ValueId id : operands) {
    hash.add(exists(id));
    if (!exists(id)) continue;
    const TensorType& type = graph.value(id).type;
    hash.add(static_cast<int>(type.dtype));
    for (const std::int64_t size : type.shape.dims()) hash.add(size);
  }
}

std::size_t hash_of(const Graph& graph, const Node& node) {
  Hash hash;
  hash.add(static_cast<int>(node.op));
  for (const auto& [key, value] : node.attributes.items()) {
    if (counts(key)) hash.add(value);
  }
  add_operands(hash, graph, node.inputs);
  add_operands(hash, graph, node.outputs);
  return hash.get();
}

bool same_attributes(const Attributes& a, const Attributes& b) {
  const auto in = [](const Attributes& one, const Attributes& other) {
    return std::all_of(one.items().begin(), one.items().end(), [&](const auto& item) {
      return !counts(item.first) ||
             std::find(other.items().begin(), other.items().end(), item) != other.items().end();
    });
  };
  return in(a, b) && in(b, a);
}

bool same_operands(const Graph& a_graph, const std::vector<ValueId>& a, const Graph& b_graph,
                   const std::vector<ValueId>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](ValueId x, ValueId y) {
    if (exists(x) != exists(y)) return false;
    return !exists(x) || layout_of(a_graph, x) == layout_of(b_graph, y);
  });
}

std::vector<OperandLayout> layouts(const Graph& graph, const std::vector<ValueId>& operands) {
  std::vector<OperandLayout> result;
  result.reserve(operands.size());
  for (const ValueId id : operands) result.push_back(layout_of(graph, id));
  return result;
}

std::string types_of(const Graph& graph, const Node& node) {
  std::vector<std::string> types;
  for (const ValueId id : node.inputs) {
    types.push_back(exists(id) ? graph.value(id).type.to_string() : "-");
  }
  return fmt::format("{}", fmt::join(types, ", "));
}

/// Where the node works on a tile of rows: the kernel that would run the whole. Rows have the bits
/// they would have there as long as the tiles' kernel is the whole's. nullptr: no tile.
const Kernel* kernel_of_whole(const Graph& graph, const Node& node, const KernelSource& source,
                              const Target& target) {
  const std::int64_t rows = node.attributes.integer_or("whole_rows", 0);
  if (rows == 0) return nullptr;
  std::vector<OperandLayout> inputs = layouts(graph, node.inputs);
  std::vector<OperandLayout> outputs = layouts(graph, node.outputs);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].present || operand_follows(node.op, i) != Follow::rows) continue;
    inputs[i].type.shape.set(0, rows);
  }
  for (OperandLayout& output : outputs) output.type.shape.set(0, rows);
  const KernelQuery whole{node.op, node.attributes, inputs, outputs, target};
  for (const Kernel* kernel : source.kernels(node.op)) {
    if (kernel->refuses == nullptr || !kernel->refuses(whole)) return kernel;
  }
  return nullptr;
}

}  // namespace

OperandLayout layout_of(const Graph& graph, ValueId id) {
  if (!exists(id) || graph.value(id).role == Role::token) return {{}, 0, false};
  return {graph.value(id).type, graph.row_stride(id), true};
}

NodeQuery::NodeQuery(const Graph& graph, const Node& node, const Target& target)
    : inputs_(layouts(graph, node.inputs)),
      outputs_(layouts(graph, node.outputs)),
      query_{node.op, node.attributes, inputs_, outputs_, target} {}

bool needs_kernel(const Graph& graph, const Node& node) {
  switch (node.op) {
    case Op::copy_wait:
      return false;
    case Op::view:
    case Op::reshape:
    case Op::stop_gradient:
      return !exists(graph.value(node.outputs[0]).base);
    default:
      return true;
  }
}

std::int32_t KernelChooser::choose(std::int32_t program, std::int32_t node) {
  const Graph& graph = module_.programs[static_cast<std::size_t>(program)].graph;
  const Node& wanted = graph.nodes[static_cast<std::size_t>(node)];
  const std::size_t hash = hash_of(graph, wanted);
  const auto [first, last] = by_hash_.equal_range(hash);
  for (auto it = first; it != last; ++it) {
    KernelChoice& choice = choices_[static_cast<std::size_t>(it->second)];
    const Graph& known = module_.programs[static_cast<std::size_t>(choice.program)].graph;
    const Node& like = node_of(module_, choice.program, choice.node);
    if (like.op == wanted.op && same_attributes(like.attributes, wanted.attributes) &&
        same_operands(known, like.inputs, graph, wanted.inputs) &&
        same_operands(known, like.outputs, graph, wanted.outputs)) {
      ++choice.nodes;
      return it->second;
    }
  }
  KernelChoice choice = decide(graph, wanted);
  choice.program = program;
  choice.node = node;
  choice.nodes = 1;
  const auto index = static_cast<std::int32_t>(choices_.size());
  choices_.push_back(std::move(choice));
  by_hash_.emplace(hash, index);
  return index;
}

KernelChoice KernelChooser::decide(const Graph& graph, const Node& node) const {
  const NodeQuery query(graph, node, target_);
  KernelChoice choice;
  const auto kernels = source_.kernels(node.op);
  const Kernel* whole = kernel_of_whole(graph, node, source_, target_);
  if (whole != nullptr && whole->refuses != nullptr && whole->refuses(query)) whole = nullptr;
  for (const Kernel* kernel : kernels) {
    std::optional<std::string> reason;
    if (kernel->refuses != nullptr) reason = kernel->refuses(query);
    if (!reason && whole != nullptr && kernel != whole) {
      reason =
          fmt::format("a tile of rows keeps the bits of the whole, which {} runs", whole->name);
    }
    if (reason) {
      choice.refusals.emplace_back(kernel->name, std::move(*reason));
      continue;
    }
    choice.kernel = kernel;
    choice.last_of_list = kernel == kernels.back();
    choice.grant = kernel->grant == nullptr ? 0 : kernel->grant(query);
    check(choice.grant >= 0, "kernel {} wants {} bytes of scratch", kernel->name, choice.grant);
    return choice;
  }
  std::string reasons;
  for (const auto& [name, reason] : choice.refusals) {
    reasons += fmt::format("; {}: {}", name, reason);
  }
  internal_error("no kernel of back end '{}' runs {}({}){}", target_.backend, op_def(node.op).name,
                 types_of(graph, node), reasons);
}

}  // namespace snug
