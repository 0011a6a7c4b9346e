#include "passes/update_in_backward.h"

#include <algorithm>
#include <map>

#include "core/error.h"
#include "ir/builder.h"
#include "ir/op.h"
#include "passes/precision.h"

namespace snug {
namespace {

bool is_update(const Node& node) { return op_def(node.op).update_states >= 0; }

/// The list of nodes with updates, and what guards them, at their places.
class Mover {
 public:
  explicit Mover(Graph& graph)
      : graph_(graph), old_(std::move(graph.nodes)), builder_(graph, graph.nodes) {
    graph.nodes.clear();
    builder_.set_phase(Phase::update);
    builder_.set_role(Role::metric);
  }

  void run() {
    const auto places = places_of_updates();
    // First contents come first: updates now precede what was emitted beside them.
    for (const Node& node : old_) {
      if (node.phase == Phase::init) graph_.nodes.push_back(node);
      if (node.op == Op::global_norm) whole_clip_ = node.outputs[1];
    }
    for (std::size_t n = 0; n < old_.size(); ++n) {
      if (!is_update(old_[n]) && old_[n].phase != Phase::init) keep(old_[n]);
      const auto [first, last] = places.equal_range(n);
      for (auto it = first; it != last; ++it) add_update(old_[it->second]);
    }
  }

 private:
  /// For each update the position of the last other node that touches its weight or gradient.
  std::multimap<std::size_t, std::size_t> places_of_updates() const {
    std::map<ValueId, std::size_t> last_use;  // by root
    for (std::size_t n = 0; n < old_.size(); ++n) {
      if (is_update(old_[n]) || old_[n].op == Op::global_norm || old_[n].phase == Phase::init) {
        continue;
      }
      for (const auto* operands : {&old_[n].inputs, &old_[n].outputs}) {
        for (const ValueId id : *operands) {
          if (exists(id)) last_use[graph_.root(id)] = n;
        }
      }
    }
    std::multimap<std::size_t, std::size_t> places;
    for (std::size_t n = 0; n < old_.size(); ++n) {
      if (!is_update(old_[n])) continue;
      std::size_t place = 0;
      for (const std::size_t operand : {kUpdateWeight, kUpdateGradient}) {
        const auto use = last_use.find(graph_.root(old_[n].inputs[operand]));
        if (use != last_use.end()) place = std::max(place, use->second);
      }
      places.emplace(place, n);
    }
    return places;
  }

  void keep(Node node) {
    if (node.op == Op::global_norm) {
      check(node.attributes.real("max_norm") == 0.0,
            "clipping needs all gradients before the first update");
      finite_ = node.outputs[2];
      // The norm of the gradients is the norm of their norms.
      node.inputs = norms_;
    } else if (node.op == Op::apply_gate && node.inputs[0] == finite_) {
      // Tensors are left out one by one: as a whole the step is applied when it is wanted.
      node.inputs[0] = node.inputs[1];
    }
    graph_.nodes.push_back(std::move(node));
  }

  void add_update(Node node) {
    check(node.inputs[kUpdateClip] == whole_clip_,
          "%{} is scaled by what is known after backward only",
          graph_.value(node.inputs[kUpdateGradient]).name);
    const std::string name = graph_.value(node.inputs[kUpdateGradient]).name;
    builder_.set_layer(node.layer);
    const auto norm = builder_.emit(Op::global_norm, {node.inputs[kUpdateGradient]},
                                    {{"max_norm", 0.0}}, name + ".norm");
    norms_.push_back(norm[0]);
    node.inputs[kUpdateClip] = kNoValue;
    node.inputs[kUpdateApply] =
        builder_.one(Op::apply_gate, {norm[2], graph_.find("scalar/apply")}, {}, name + ".apply");
    graph_.nodes.push_back(std::move(node));
  }

  Graph& graph_;
  std::vector<Node> old_;
  Builder builder_;
  std::vector<ValueId> norms_;
  ValueId whole_clip_ = kNoValue;
  ValueId finite_ = kNoValue;
};

Graph run(Graph graph) {
  Mover(graph).run();
  return graph;
}

}  // namespace

Pass update_in_backward_pass(const UpdateInBackwardOptions& options) {
  Pass pass{.name = "update_in_backward",
            .needs = {},
            .gives = {},
            .breaks = {},
            .equality = Equality::exact,
            .run = nullptr};
  if (!options.on) return pass;
  pass.needs = {facts::kOptimized, facts::kGradientsComplete};
  pass.breaks = {facts::kGradientsComplete};
  pass.run = run;
  return pass;
}

std::string why_no_update_in_backward(const Settings& settings, std::int64_t accumulation) {
  if (!settings.update_in_backward.on) return "";
  if (settings.optimizer.max_grad_norm > 0) {
    return fmt::format(
        "update_in_backward with max_grad_norm={}: the norm of all gradients is known only after "
        "the first updates",
        settings.optimizer.max_grad_norm);
  }
  if (accumulation > 1) {
    return fmt::format(
        "update_in_backward with gradient_accumulation_steps={}: each micro-batch would update",
        accumulation);
  }
  if (needs_loss_scale(settings.precision)) {
    return "update_in_backward with fp16: whether any gradient overflowed is known only after all "
           "of "
           "backward";
  }
  return "";
}

}  // namespace snug
