#include "passes/autodiff.h"

#include <algorithm>
#include <iterator>

#include "core/philox.h"
#include "ir/builder.h"
#include "ir/op.h"

namespace snug {
namespace {

std::size_t at(ValueId id) { return static_cast<std::size_t>(id); }

/// What is known of one value's gradient.
struct Pending {
  ValueId sum = kNoValue;
  bool owned = false;  ///< nothing else reads the sum: it may be added to in place
  int parts = 0;       ///< contributions so far
};

class Differentiator {
 public:
  Differentiator(Graph graph, ValueId loss, ValueId seed, const AutodiffOptions& options)
      : graph_(std::move(graph)),
        options_(options),
        loss_(loss),
        seed_(seed),
        builder_(graph_, backward_),
        pending_(static_cast<std::size_t>(graph_.value_count())),
        parameter_of_(pending_.size(), nullptr),
        needed_(pending_.size(), false),
        read_in_forward_(pending_.size(), false) {}

  Graph run() {
    check(graph_.value(seed_).type == graph_.value(loss_).type,
          "the loss %{} is {}, its gradient %{} {}", graph_.value(loss_).name,
          Late{[&] { return graph_.value(loss_).type.to_string(); }}, graph_.value(seed_).name,
          Late{[&] { return graph_.value(seed_).type.to_string(); }});
    find_needed();
    builder_.set_phase(Phase::backward);
    pending_[at(loss_)] = {seed_, false};
    for (std::size_t n = graph_.nodes.size(); n-- > 0;) visit(graph_.nodes[n]);
    std::move(backward_.begin(), backward_.end(), std::back_inserter(graph_.nodes));
    finish_outputs();
    graph_.facts.emplace(facts::kDifferentiated);
    graph_.facts.emplace(facts::kGradientsComplete);
    graph_.remove_dead();
    return std::move(graph_);
  }

 private:
  /// Values a trainable parameter flows into, the parameters themselves included.
  void find_needed() {
    for (const Parameter& parameter : graph_.parameters) {
      if (!parameter.trainable) continue;
      const auto weight = std::find_if(parameter.storage.begin(), parameter.storage.end(),
                                       [](const auto& s) { return s.component == "weight"; });
      check(weight != parameter.storage.end() && weight->format == "plain",
            "trainable parameter '{}' is not stored as it is", parameter.name);
      const ValueId value = graph_.find(weight->value);
      check(exists(value), "the graph has no value for trainable parameter '{}'", parameter.name);
      parameter_of_[at(value)] = &parameter;
      needed_[at(value)] = true;
    }
    for (const Node& node : graph_.nodes) {
      const bool flows = node.op != Op::stop_gradient &&
                         std::any_of(node.inputs.begin(), node.inputs.end(),
                                     [&](ValueId id) { return exists(id) && needed_[at(id)]; });
      for (const ValueId id : node.inputs) {
        if (exists(id)) read_in_forward_[at(id)] = true;
      }
      for (const ValueId id : node.outputs) {
        if (flows && exists(id) && is_float(graph_.value(id).type.dtype)) needed_[at(id)] = true;
      }
    }
  }

  bool needs(const Node& node, int i) const {
    if (i >= static_cast<int>(node.inputs.size())) return false;
    const ValueId id = node.inputs[static_cast<std::size_t>(i)];
    return exists(id) && needed_[at(id)];
  }

  void visit(const Node& node) {
    std::vector<ValueId> flowing(node.outputs.size(), kNoValue);
    for (std::size_t i = 0; i < flowing.size(); ++i) {
      if (exists(node.outputs[i]) && needed_[at(node.outputs[i])]) {
        flowing[i] = pending_[at(node.outputs[i])].sum;
      }
    }
    if (std::none_of(flowing.begin(), flowing.end(), exists)) return;
    const OpDef& def = op_def(node.op);
    check(def.gradient != nullptr, "op '{}' has no gradient rule, but %{} needs one", def.name,
          graph_.value(node.outputs.front()).name);
    builder_.set_layer(node.layer);
    const std::int64_t first_new = graph_.value_count();
    std::vector<bool> took(node.inputs.size(), false);
    GradientContext context = make_context(node, flowing, took);
    def.gradient(context);
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (exists(context.input_gradients[i]) && needs(node, static_cast<int>(i))) {
        contribute(node.inputs[i], context.input_gradients, i, took[i], first_new);
      }
    }
  }

  GradientContext make_context(const Node& node, std::span<const ValueId> flowing,
                               std::vector<bool>& took) {
    const auto input = [&node](int i) { return node.inputs[static_cast<std::size_t>(i)]; };
    return {.builder = builder_,
            .node = node,
            .output_gradients = flowing,
            .input_gradients = std::vector<ValueId>(node.inputs.size(), kNoValue),
            .needs = [this, &node](int i) { return needs(node, i); },
            .partial =
                [this, input](int i) {
                  const Pending& pending = pending_[at(input(i))];
                  return pending.owned ? pending.sum : kNoValue;
                },
            .took_partial = [&took](int i) { took[static_cast<std::size_t>(i)] = true; },
            .gradient_attributes = [this, input](int i) { return attributes_of(input(i)); },
            .draw = [this](DType type) { return type == DType::bf16 ? draw() : kNoValue; },
            .replace_output =
                [this, &node](int i, ValueId value) {
                  replace(node.outputs[static_cast<std::size_t>(i)], value);
                }};
  }

  Attributes attributes_of(ValueId value) const {
    const Parameter* parameter = parameter_of_[at(value)];
    const DType type =
        parameter == nullptr ? graph_.value(value).type.dtype : options_.gradient_dtype;
    return {{"dtype", std::string(name_of(type))},
            {"seed", options_.seed},
            {"stream", static_cast<std::int64_t>(stream_hash(stream_name(value)))}};
  }

  /// Each contribution is rounded with random numbers of its own.
  std::string stream_name(ValueId value) const {
    const int parts = pending_[at(value)].parts;
    return parts == 0 ? gradient_name(value)
                      : fmt::format("{}/part{}", gradient_name(value), parts);
  }

  std::string gradient_name(ValueId value) const {
    const Parameter* parameter = parameter_of_[at(value)];
    return (parameter == nullptr ? graph_.value(value).name : parameter->name) + ".grad";
  }

  ValueId draw() {
    const ValueId known = graph_.find("scalar/draw");
    if (exists(known)) return known;
    return builder_.input("scalar/draw", {DType::i64, {}}, Role::scalar, Scope::run);
  }

  /// Adds contribution `i` of a rule to the gradient of `value`.
  void contribute(ValueId value, std::span<const ValueId> all, std::size_t i, bool took,
                  std::int64_t first_new) {
    Pending& pending = pending_[at(value)];
    ValueId part = all[i];
    if (took) {
      rename_fresh(part, gradient_name(value));
      pending = {part, true, pending.parts + 1};
      return;
    }
    // Made by this rule for this operand alone, and not a view of something else.
    bool owned = static_cast<std::int64_t>(part) >= first_new && !exists(graph_.value(part).base) &&
                 std::count(all.begin(), all.end(), part) == 1;
    if (parameter_of_[at(value)] != nullptr) {
      part = as_parameter_gradient(value, part, owned);
      owned = true;
    }
    check(
        parameter_of_[at(value)] != nullptr || graph_.value(part).type == graph_.value(value).type,
        "the gradient of %{} is {}, not {}", graph_.value(value).name,
        Late{[&] { return graph_.value(part).type.to_string(); }},
        Late{[&] { return graph_.value(value).type.to_string(); }});
    if (exists(pending.sum)) {
      part = builder_.one(Op::add, {pending.sum, part}, {}, gradient_name(value));
      owned = true;
    }
    if (owned) rename_fresh(part, gradient_name(value));
    pending = {part, owned, pending.parts + 1};
  }

  /// In the parameters' gradient type and in a place of its own.
  ValueId as_parameter_gradient(ValueId value, ValueId part, bool owned) {
    const TensorType wanted{options_.gradient_dtype, graph_.value(value).type.shape};
    check(graph_.value(part).type.shape == wanted.shape, "the gradient of %{} is {}",
          graph_.value(value).name, Late{[&] { return graph_.value(part).type.to_string(); }});
    if (graph_.value(part).type.dtype != wanted.dtype) {
      return builder_.one(Op::cast, {part}, {{"dtype", std::string(name_of(wanted.dtype))}},
                          gradient_name(value));
    }
    return owned ? part : builder_.one(Op::copy, {part}, {}, gradient_name(value));
  }

  void rename_fresh(ValueId id, const std::string& name) {
    const std::string& now = graph_.value(id).name;
    if (now == name || now.starts_with(name + ".")) return;
    graph_.rename_value(id, graph_.fresh_name(name));
  }

  /// A forward result that the backward visit also gives: the forward node dies unless another
  /// forward node reads it.
  void replace(ValueId from, ValueId to) {
    if (read_in_forward_[at(from)]) return;
    graph_.replace_uses(from, to);
    for (Node& node : backward_) std::replace(node.inputs.begin(), node.inputs.end(), from, to);
    if (loss_ == from) loss_ = to;
    const std::string name = graph_.value(from).name;
    graph_.rename_value(from, graph_.fresh_name(name + ".forward"));
    graph_.rename_value(to, name);
    graph_.value(to).role = graph_.value(from).role;
    graph_.value(to).scope = graph_.value(from).scope;
  }

  void finish_outputs() {
    const auto add_output = [&](ValueId id) {
      if (std::find(graph_.outputs.begin(), graph_.outputs.end(), id) == graph_.outputs.end()) {
        graph_.outputs.push_back(id);
      }
    };
    add_output(loss_);
    for (std::size_t v = 0; v < parameter_of_.size(); ++v) {
      if (parameter_of_[v] == nullptr) continue;
      const ValueId sum = pending_[v].sum;
      check(exists(sum), "the loss does not depend on trainable parameter '{}'",
            parameter_of_[v]->name);
      name_gradient(sum, parameter_of_[v]->name + ".grad");
      add_output(sum);
    }
  }

  /// Marks the sum and the versions before it as a gradient whose storage goes by `name`.
  void name_gradient(ValueId sum, const std::string& name) {
    for (ValueId id = sum; exists(id); id = graph_.value(id).base) {
      graph_.value(id).role = Role::gradient;
    }
    const ValueId root = graph_.root(sum);
    if (graph_.value(root).name == name) return;
    const ValueId other = graph_.find(name);
    if (exists(other)) graph_.rename_value(other, graph_.fresh_name(name + ".part"));
    graph_.rename_value(root, name);
  }

  Graph graph_;
  AutodiffOptions options_;
  ValueId loss_;
  ValueId seed_;
  std::vector<Node> backward_;
  Builder builder_;
  std::vector<Pending> pending_;                // by value of the forward graph
  std::vector<const Parameter*> parameter_of_;  // trainable parameters' values
  std::vector<bool> needed_;
  std::vector<bool> read_in_forward_;
};

}  // namespace

Graph differentiate(Graph graph, ValueId loss, ValueId seed, const AutodiffOptions& options) {
  return Differentiator(std::move(graph), loss, seed, options).run();
}

Pass autodiff_pass(DType gradient_dtype, std::int64_t seed) {
  return {.name = "autodiff",
          .needs = {facts::kTyped},
          .gives = {facts::kDifferentiated, facts::kGradientsComplete},
          .breaks = {},
          .equality = Equality::exact,
          .run = [gradient_dtype, seed](Graph graph) {
            const ValueId weight = Builder(graph).input("scalar/loss_weight", {DType::f32, Shape{}},
                                                        Role::scalar, Scope::run);
            const ValueId loss = graph.find("metric/loss");
            return differentiate(std::move(graph), loss, weight, {gradient_dtype, seed});
          }};
}

}  // namespace snug
