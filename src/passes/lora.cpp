#include "passes/lora.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "core/philox.h"
#include "ir/builder.h"
#include "ir/op.h"
#include "passes/name_patterns.h"

namespace snug {
namespace {

constexpr std::string_view kTargets = "lora_target_modules";
constexpr std::string_view kAllLinear = "all-linear";

std::size_t at(ValueId id) { return static_cast<std::size_t>(id); }

/// The first entry whose key is the module, an end of its name or an expression of either.
std::optional<double> by_pattern(const NamedNumbers& entries, const std::string& module,
                                 std::string_view key) {
  for (const auto& [pattern, number] : entries) {
    if (NamePattern("(.*\\.)?(" + pattern + ")", key).matches(module)) return number;
  }
  return std::nullopt;
}

std::string without_weight(const std::string& name) { return name.substr(0, name.rfind('.')); }

class Adapters {
 public:
  Adapters(Graph& graph, const LoraOptions& options, std::int64_t seed, AdapterUse use)
      : graph_(graph),
        options_(options),
        seed_(seed),
        use_(use),
        old_(std::move(graph.nodes)),
        builder_(graph),
        replaced_(static_cast<std::size_t>(graph.value_count()), kNoValue) {
    graph.nodes.clear();
  }

  void run() {
    for (Parameter& parameter : graph_.parameters) parameter.trainable = false;
    keep_copies();
    for (std::size_t p = 0; p < graph_.parameters.size(); ++p) {
      const Parameter& parameter = graph_.parameters[p];
      parameter_of_[graph_.find(parameter.name)] = parameter.name;
    }
    check_targets();
    for (Node& node : old_) rewrite(node);
    for (ValueId& id : graph_.outputs) id = current(id);
  }

 private:
  ValueId current(ValueId id) const {
    return exists(id) && at(id) < replaced_.size() && exists(replaced_[at(id)]) ? replaced_[at(id)]
                                                                                : id;
  }

  // Modules trained in full.

  bool is_saved(const std::string& module) const {
    return std::any_of(options_.modules_to_save.begin(), options_.modules_to_save.end(),
                       [&](const std::string& end) { return module.ends_with(end); });
  }

  void keep_copies() {
    std::vector<std::string> modules;
    untie();
    std::vector<bool> used(options_.modules_to_save.size(), false);
    for (Parameter& parameter : graph_.parameters) {
      const std::string module = without_weight(parameter.name);
      modules.push_back(last_parts(module));
      for (std::size_t i = 0; i < used.size(); ++i) {
        if (module.ends_with(options_.modules_to_save[i])) used[i] = true;
      }
      if (!is_saved(module)) continue;
      parameter.owner = Owner::copy;
      parameter.trainable = use_ == AdapterUse::training;
    }
    const auto unused = std::find(used.begin(), used.end(), false);
    if (unused == used.end()) return;
    user_error("modules_to_save: '{}' finds no module. There are {}.",
               options_.modules_to_save[static_cast<std::size_t>(unused - used.begin())],
               distinct_names(std::move(modules)));
  }

  /// Gives a head that shares the embedding's table a table of its own when either is to be saved.
  void untie() {
    for (std::size_t p = 0; p < graph_.parameters.size(); ++p) {
      const Parameter table = graph_.parameters[p];
      if (table.uses < 2 || table.tied_names.empty()) continue;
      const std::string head = table.tied_names.front();
      if (!is_saved(without_weight(table.name)) && !is_saved(without_weight(head))) continue;
      Parameter own = table;
      own.name = head;
      own.tied_names = {table.name};
      own.uses = graph_.parameters[p].uses = 1;
      own.storage.front().value = head;
      const ValueId shared = graph_.find(table.name);
      const ValueId apart = builder_.input(head, table.type, Role::weight, Scope::run);
      for (Node& node : old_) {
        if (node.op == Op::embedding) continue;
        std::replace(node.inputs.begin(), node.inputs.end(), shared, apart);
      }
      graph_.parameters.push_back(std::move(own));
    }
  }

  // Targets.

  static bool is_named(const std::vector<std::string>& entries, const std::string& module) {
    return std::any_of(entries.begin(), entries.end(), [&](const std::string& entry) {
      return module == entry || module.ends_with("." + entry);
    });
  }

  /// The module of a product with a parameter: `lm_head` for the head, tied or not.
  std::string module_of(const Node& node) const {
    if (node.op != Op::linear && node.op != Op::head_loss) return {};
    const auto found = parameter_of_.find(node.inputs[1]);
    if (found == parameter_of_.end()) return {};
    const Parameter& parameter =
        *std::find_if(graph_.parameters.begin(), graph_.parameters.end(),
                      [&](const Parameter& p) { return p.name == found->second; });
    return without_weight(parameter.uses > 1 ? parameter.tied_names.front() : parameter.name);
  }

  /// As in PEFT, what is trained in full is no target.
  bool is_target(const Node& node, const std::string& module) const {
    if (is_named(options_.modules_to_save, module)) return false;
    return std::any_of(
        options_.targets.begin(), options_.targets.end(), [&](const std::string& wanted) {
          return wanted == kAllLinear ? node.layer >= 0 : is_module(module, wanted, kTargets);
        });
  }

  void check_targets() const {
    std::vector<std::string> modules;
    for (const Node& node : old_) {
      const std::string module = module_of(node);
      if (!module.empty()) modules.push_back(module);
      if (node.op == Op::embedding) refuse_embedding(node);
      if (node.layer < 0 && !module.empty() && is_target(node, module)) check_head(module);
    }
    for (const std::string& wanted : options_.targets) {
      if (wanted == kAllLinear) continue;
      if (std::any_of(modules.begin(), modules.end(), [&](const std::string& module) {
            return is_module(module, wanted, kTargets);
          })) {
        continue;
      }
      std::vector<std::string> names;
      for (const std::string& module : modules) names.push_back(last_parts(module));
      user_error("{}: '{}' matches no linear layer. There are {}.", kTargets, wanted,
                 distinct_names(std::move(names)));
    }
    if (options_.targets.empty()) user_error("{} is empty; all-linear names them all.", kTargets);
  }

  /// The head's logits exist by chunks only, inside the loss.
  void check_head(const std::string& module) const {
    if (options_.dora) {
      user_error(
          "{}: {} cannot have DoRA: its result never exists as a whole. Nearest: use_dora=false, "
          "or "
          "modules_to_save={} to train it in full.",
          kTargets, module, module);
    }
  }

  void refuse_embedding(const Node& node) const {
    const auto found = parameter_of_.find(node.inputs[0]);
    if (found == parameter_of_.end()) return;  // picks rows of something else
    const std::string module = without_weight(found->second);
    if (is_named(options_.modules_to_save, module)) return;
    for (const std::string& wanted : options_.targets) {
      if (wanted == kAllLinear || !is_module(module, wanted, kTargets)) continue;
      user_error(
          "{}: {} is an embedding; adapters are for linear layers. Nearest: modules_to_save={} "
          "trains it in full.",
          kTargets, module, module.substr(module.rfind('.') + 1));
    }
  }

  // The rewrite.

  void rewrite(Node& node) {
    for (ValueId& id : node.inputs) id = current(id);
    for (const ValueId id : node.outputs) {
      if (exists(id)) graph_.value(id).base = current(graph_.value(id).base);
    }
    const std::string module = module_of(node);
    if (module.empty() || !is_target(node, module)) {
      graph_.nodes.push_back(node);
      return;
    }
    builder_.set_layer(node.layer);
    builder_.set_phase(node.phase);
    if (node.op == Op::head_loss) {
      const Pair pair = add_pair(node, module);
      node.op = Op::adapted_head_loss;
      node.inputs.push_back(low_rank(pair, dropped(node.inputs[0], module, module), module));
      node.inputs.push_back(pair.b);
      graph_.nodes.push_back(node);
      return;
    }
    const ValueId y = node.outputs[0];
    const std::string name = graph_.value(y).name;
    const Role role = graph_.value(y).role;
    graph_.rename_value(y, graph_.fresh_name(name + ".base"));
    graph_.value(y).role = Role::activation;
    const ValueId result =
        options_.dora ? with_dora(node, module, name) : with_lora(node, module, name);
    graph_.rename_value(result, name);
    for (ValueId id = result; exists(id); id = graph_.value(id).base) graph_.value(id).role = role;
    replaced_[at(y)] = result;
  }

  ValueId with_lora(const Node& node, const std::string& module, const std::string& name) {
    graph_.nodes.push_back(node);
    const Pair pair = add_pair(node, module);
    return add_delta(pair, dropped(node.inputs[0], module, name), node, name);
  }

  /// m / n (x Wt + s x At Bt) + b; with dropped inputs x' = x (1 - d):
  /// (x - x') Wt + b + m / n (x' Wt + s x' At Bt).
  ValueId with_dora(Node node, const std::string& module, const std::string& name) {
    const Pair pair = add_pair(node, module);
    const ValueId x = node.inputs[0];
    const ValueId w = node.inputs[1];
    const ValueId bias = node.inputs.size() > 2 ? node.inputs[2] : kNoValue;
    const ValueId norms = add_norms(pair, node, module, name);
    const ValueId input = dropped(x, module, name);
    ValueId rest = kNoValue;
    if (input != x) {
      const ValueId negative = builder_.one(Op::scale, {input}, {{"factor", -1.0}}, name + ".kept");
      const ValueId missing = builder_.one(Op::add, {x, negative}, {}, name + ".missing");
      rest = builder_.one(Op::linear, {missing, w, bias}, node.attributes, name + ".rest");
    }
    node.inputs = {input, w, kNoValue};
    graph_.nodes.push_back(node);
    const ValueId sum = add_delta(pair, input, node, name + ".directions");
    const ValueId scaled = builder_.one(
        Op::scale_columns, {sum, pair.magnitude, norms, exists(rest) ? kNoValue : bias}, {},
        name + ".scaled");
    return exists(rest) ? builder_.one(Op::add, {rest, scaled}, {}, name + ".whole") : scaled;
  }

  /// An adapter's parameters and scale.
  struct Pair {
    ValueId a, b, magnitude;
    double scale;
  };

  Pair add_pair(const Node& node, const std::string& module) {
    const Shape w = graph_.value(node.inputs[1]).type.shape;
    const AdapterScale scale = adapter_scale(options_, module);
    if (scale.rank > std::min(w[0], w[1])) {
      user_error("lora_r={}: {} is [{}, {}]; its adapter's rank is at most {}.", scale.rank, module,
                 w[0], w[1], std::min(w[0], w[1]));
    }
    const auto known = pairs_.find(module);
    if (known != pairs_.end()) return known->second;
    Pair pair{kNoValue, kNoValue, kNoValue, scale.scale};
    pair.a = parameter(module + ".lora_A.weight", {scale.rank, w[1]}, Initial::fan_in_uniform);
    pair.b = parameter(module + ".lora_B.weight", {w[0], scale.rank}, Initial::zeros);
    if (options_.dora) {
      pair.magnitude = parameter(module + ".lora_magnitude_vector", {w[0]}, Initial::row_norms);
      Parameter& magnitude = graph_.parameters.back();
      magnitude.measured = parameter_of_.at(node.inputs[1]);
      magnitude.keep_fp32 = true;  // a factor of whole rows
    }
    pairs_.emplace(module, pair);
    return pair;
  }

  ValueId parameter(const std::string& name, const Shape& shape, Initial initial) {
    const TensorType type{DType::f32, shape};
    Parameter parameter{.name = name,
                        .type = type,
                        .trainable = use_ == AdapterUse::training,
                        .initial = initial,
                        .layer = builder_.layer(),
                        .owner = Owner::adapter};
    parameter.storage.push_back({"weight", "plain", name, type});
    graph_.parameters.push_back(std::move(parameter));
    return builder_.input(name, type, Role::weight, Scope::run);
  }

  ValueId dropped(ValueId x, const std::string& module, const std::string& name) {
    if (options_.dropout == 0 || use_ != AdapterUse::training) return x;
    const std::int64_t tokens = graph_.value(x).type.shape[0];
    const auto input = [&](const char* what, TensorType type, Role role, Scope scope) {
      const ValueId known = graph_.find(what);
      return exists(known) ? known : builder_.input(what, type, role, scope);
    };
    const TensorType row{DType::i32, Shape{tokens}};
    return builder_.one(
        Op::dropout,
        {x, input("scalar/draw", {DType::i64, Shape{}}, Role::scalar, Scope::run),
         input("input/rows", row, Role::input, Scope::call),
         input("input/positions", row, Role::input, Scope::call)},
        {{"rate", options_.dropout},
         {"seed", seed_},
         {"stream", static_cast<std::int64_t>(stream_hash(module + ".lora_dropout"))}},
        name + ".dropped");
  }

  /// s x At
  ValueId low_rank(const Pair& pair, ValueId x, const std::string& name) {
    const ValueId low = builder_.one(Op::linear, {x, pair.a}, {}, name + ".lora_A");
    if (pair.scale == 1.0) return low;
    return builder_.one(Op::scale, {low}, {{"factor", pair.scale}}, name + ".lora_scaled");
  }

  /// y + s (x At) Bt, in the place of y, the base's result.
  ValueId add_delta(const Pair& pair, ValueId x, const Node& base, const std::string& name) {
    const ValueId low = low_rank(pair, x, name);
    return builder_.one(Op::linear, {low, pair.b, kNoValue, base.outputs[0]}, base.attributes,
                        name + ".lora_B");
  }

  ValueId add_norms(const Pair& pair, const Node& node, const std::string& module,
                    const std::string& name) {
    const bool once = use_ == AdapterUse::generation;
    if (once) builder_.set_phase(Phase::init);
    builder_.set_role(once ? Role::constant : Role::activation);
    const ValueId norms =
        builder_.one(Op::dora_norm, {node.inputs[1], pair.a, pair.b}, {{"scale", pair.scale}},
                     once ? module + ".norms" : name + ".norms");
    if (once) graph_.value(norms).scope = Scope::run;
    builder_.set_phase(node.phase);
    builder_.set_role(Role::activation);
    return norms;
  }

  Graph& graph_;
  const LoraOptions& options_;
  std::int64_t seed_;
  AdapterUse use_;
  std::vector<Node> old_;
  Builder builder_;
  std::vector<ValueId> replaced_;                ///< by value of the given graph
  std::map<ValueId, std::string> parameter_of_;  ///< weights' parameters
  std::map<std::string, Pair> pairs_;            ///< by module
};

Graph run(Graph graph, const LoraOptions& options, std::int64_t seed, AdapterUse use) {
  Adapters(graph, options, seed, use).run();
  return graph;
}

}  // namespace

std::string describe_adapters(const Settings& settings) {
  if (settings.model.finetuning != FinetuningType::lora) return {};
  const LoraOptions& options = settings.lora;
  const char* const kind = options.dora ? "DoRA" : options.rslora ? "rsLoRA" : "LoRA";
  return fmt::format("{} r {}", kind, options.rank);
}

AdapterScale adapter_scale(const LoraOptions& options, const std::string& name) {
  AdapterScale scale;
  const auto rank = by_pattern(options.rank_pattern, name, "rank_pattern");
  if (rank && (*rank < 1 || *rank != std::floor(*rank))) {
    user_error("rank_pattern gives {} the rank {}; expected a whole number from 1 on.", name,
               *rank);
  }
  scale.rank = rank ? static_cast<std::int64_t>(*rank) : options.rank;
  scale.alpha = by_pattern(options.alpha_pattern, name, "alpha_pattern")
                    .value_or(options.alpha.value_or(2.0 * static_cast<double>(options.rank)));
  const auto r = static_cast<double>(scale.rank);
  scale.scale = scale.alpha / (options.rslora ? std::sqrt(r) : r);
  return scale;
}

Pass lora_pass(const LoraOptions& options, std::int64_t seed, AdapterUse use) {
  return {.name = "lora",
          .needs = {},
          .gives = {},
          .breaks = {},
          .equality = Equality::changed,
          .run = [options, seed, use](Graph graph) {
            return run(std::move(graph), options, seed, use);
          }};
}

}  // namespace snug
