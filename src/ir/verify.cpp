#include "ir/verify.h"

#include <algorithm>

#include "ir/op.h"
#include "ir/storage_roots.h"

namespace snug {
namespace {

std::size_t at(ValueId id) { return static_cast<std::size_t>(id); }

class Verifier {
 public:
  explicit Verifier(const Graph& graph) : graph_(graph), producers_(graph.value_count(), kInput) {}

  void run() {
    find_producers();
    for (std::size_t n = 0; n < graph_.nodes.size(); ++n) {
      const Node& node = graph_.nodes[n];
      check_arity(node);
      check_order(node, static_cast<std::int32_t>(n));
      check_types(node);
      check_spaces(node);
      check_aliases(node);
    }
    for (std::int64_t v = 0; v < graph_.value_count(); ++v) check_view(static_cast<ValueId>(v));
    check_versions();
    for (const ValueId id : graph_.outputs)
      check(in_range(id), "graph '{}': output of no value", graph_.name());
  }

 private:
  static constexpr std::int32_t kInput = -1;

  bool in_range(ValueId id) const {
    return static_cast<std::int64_t>(id) >= 0 &&
           static_cast<std::int64_t>(id) < graph_.value_count();
  }

  auto describe(const Node& node) const {
    return Late{[this, &node] {
      const bool named = !node.outputs.empty() && exists(node.outputs[0]);
      return fmt::format("graph '{}', node '%{} = {}'", graph_.name(),
                         named ? graph_.value(node.outputs[0]).name : std::string("?"),
                         op_def(node.op).name);
    }};
  }

  void find_producers() {
    for (std::size_t n = 0; n < graph_.nodes.size(); ++n) {
      for (const ValueId id : graph_.nodes[n].outputs) {
        check(in_range(id), "{}: an output is no value", describe(graph_.nodes[n]));
        check(producers_[at(id)] == kInput, "graph '{}': %{} is produced twice", graph_.name(),
              graph_.value(id).name);
        producers_[at(id)] = static_cast<std::int32_t>(n);
      }
    }
  }

  void check_arity(const Node& node) const {
    const OpDef& def = op_def(node.op);
    const auto inputs = static_cast<int>(node.inputs.size());
    const auto outputs = static_cast<int>(node.outputs.size());
    check(inputs >= def.min_inputs && (def.max_inputs < 0 || inputs <= def.max_inputs),
          "{}: {} operands, the op takes {} to {}", describe(node), inputs, def.min_inputs,
          def.max_inputs);
    check(outputs >= def.min_outputs && outputs <= def.max_outputs,
          "{}: {} results, the op gives {} to {}", describe(node), outputs, def.min_outputs,
          def.max_outputs);
    for (int i = 0; i < def.min_inputs; ++i) {
      // Operands in the middle may be optional; the shape rule insists on those it needs.
      check(node.inputs[static_cast<std::size_t>(i)] == kNoValue ||
                in_range(node.inputs[static_cast<std::size_t>(i)]),
            "{}: operand {} is no value", describe(node), i);
    }
  }

  void check_order(const Node& node, std::int32_t position) const {
    for (const ValueId id : node.inputs) {
      if (!exists(id)) continue;
      check(in_range(id), "{}: an operand is no value", describe(node));
      check(producers_[at(id)] < position, "{}: reads %{} before it is produced", describe(node),
            graph_.value(id).name);
    }
  }

  void check_types(const Node& node) const {
    const auto types = operand_types(graph_, node);
    const auto expected = infer_types({node.op, types, node.attributes});
    check(expected.size() >= node.outputs.size(), "{}: more results than the shape rule gives",
          describe(node));
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      const TensorType& actual = graph_.value(node.outputs[i]).type;
      check(actual == expected[i], "{}: result {} is {}, the shape rule says {}", describe(node), i,
            Late{[&] { return actual.to_string(); }},
            Late{[&, i] { return expected[i].to_string(); }});
    }
  }

  void check_spaces(const Node& node) const {
    if (node.op == Op::copy_start || node.op == Op::copy_wait) return;
    for (const auto* operands : {&node.inputs, &node.outputs}) {
      for (const ValueId id : *operands) {
        if (!exists(id)) continue;
        const ValueId first = node.outputs.front();
        check(graph_.value(id).space == graph_.value(first).space, "{}: %{} is in {}, %{} in {}",
              describe(node), graph_.value(id).name, name_of(graph_.value(id).space),
              graph_.value(first).name, name_of(graph_.value(first).space));
      }
    }
  }

  void check_aliases(const Node& node) const {
    for (const Aliasing& alias : op_def(node.op).aliasing) {
      if (!alias.must || alias.output >= static_cast<int>(node.outputs.size()) ||
          alias.input >= static_cast<int>(node.inputs.size())) {
        continue;
      }
      const ValueId in = node.inputs[static_cast<std::size_t>(alias.input)];
      if (!exists(in)) continue;
      const Value& out = graph_.value(node.outputs[static_cast<std::size_t>(alias.output)]);
      check(out.base == in, "{}: result %{} must be a version of %{}", describe(node), out.name,
            graph_.value(in).name);
      const Value& base = graph_.value(in);
      check(out.scope == base.scope && out.space == base.space && out.role == base.role,
            "{}: version %{} differs from %{} in scope, space or role", describe(node), out.name,
            base.name);
    }
  }

  /// A state is overwritten when a version of it is written: from then on only the version counts.
  void check_versions() const {
    std::vector<ValueId> newest(producers_.size(), kNoValue);
    const std::vector<ValueId> roots = storage_roots(graph_);
    for (std::size_t n = 0; n < graph_.nodes.size(); ++n) {
      const Node& node = graph_.nodes[n];
      for (const ValueId id : node.inputs) {
        if (!exists(id)) continue;
        const ValueId state = state_of(id);
        const ValueId latest = newest[at(roots[at(id)])];
        check(!exists(latest) || latest == state, "{}: reads %{} after %{} has overwritten it",
              describe(node), graph_.value(id).name,
              Late{[&] { return graph_.value(latest).name; }});
      }
      for (const ValueId id : node.outputs) {
        if (exists(id) && is_version(id)) newest[at(roots[at(id)])] = id;
      }
    }
  }

  bool is_view(ValueId id) const {
    const std::int32_t producer = producers_[at(id)];
    if (producer < 0) return exists(graph_.value(id).base);
    return op_def(graph_.nodes[static_cast<std::size_t>(producer)].op).view;
  }
  bool is_version(ValueId id) const { return exists(graph_.value(id).base) && !is_view(id); }
  /// The version (or the root when it was never overwritten: kNoValue-like) a view looks at.
  ValueId state_of(ValueId id) const {
    while (exists(graph_.value(id).base) && is_view(id)) id = graph_.value(id).base;
    return id;
  }

  void check_view(ValueId id) const {
    const Value& value = graph_.value(id);
    if (!exists(value.base)) {
      check(value.offset == 0, "graph '{}': %{} has an offset and no base", graph_.name(),
            value.name);
      return;
    }
    check(in_range(value.base), "graph '{}': the base of %{} is no value", graph_.name(),
          value.name);
    const Value& base = graph_.value(value.base);
    const std::int64_t rows = value.type.shape.rank() == 0 ? 1 : value.type.shape[0];
    const std::int64_t row = rows == 0 ? 0 : value.type.shape.elements() / rows;
    const std::int64_t last = value.offset + (rows - 1) * graph_.row_stride(id) + row;
    const std::int64_t base_rows = base.type.shape.rank() == 0 ? 1 : base.type.shape[0];
    const std::int64_t base_row = base_rows == 0 ? 0 : base.type.shape.elements() / base_rows;
    const std::int64_t extent = (base_rows - 1) * graph_.row_stride(value.base) + base_row;
    check(value.offset >= 0 && last <= extent,
          "graph '{}': view %{} ends at element {} of %{}, which has {}", graph_.name(), value.name,
          last, base.name, extent);
  }

  const Graph& graph_;
  std::vector<std::int32_t> producers_;
};

}  // namespace

void verify_graph(const Graph& graph) { Verifier(graph).run(); }

}  // namespace snug
