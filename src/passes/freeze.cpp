#include "passes/freeze.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "core/error.h"
#include "passes/name_patterns.h"

namespace snug {
namespace {

bool is_all(const std::vector<std::string>& names) {
  return names.size() == 1 && names.front() == "all";
}

/// `mlp` in `model.layers.0.mlp.up_proj.weight`: a whole part of the dotted name.
bool has_part(const std::string& name, const std::string& part) {
  return ("." + name + ".").find("." + part + ".") != std::string::npos;
}

std::string known_names(const Graph& graph) {
  std::vector<std::string> names;
  for (const Parameter& parameter : graph.parameters) {
    if (parameter.trainable) names.push_back(last_parts(parameter.name));
  }
  return distinct_names(std::move(names));
}

class Choice {
 public:
  Choice(Graph& graph, const FreezeOptions& options) : graph_(graph), options_(options) {
    for (const Parameter& parameter : graph.parameters) {
      layers_ = std::max<std::int64_t>(layers_, parameter.layer + 1);
    }
    chosen_.assign(graph.parameters.size(), false);
  }

  void by_pattern() {
    for (const std::string& text : options_.unfrozen) {
      const NamePattern pattern(text, "unfrozen_parameters");
      choose("unfrozen_parameters", text,
             [&](const Parameter& parameter) { return pattern.found_in(parameter.name); });
    }
  }

  void by_layer() {
    if (options_.layers == 0 || std::abs(options_.layers) > layers_) {
      user_error("freeze_trainable_layers={}: the model has {} layers.", options_.layers, layers_);
    }
    for (const std::string& part : options_.modules) {
      choose("freeze_trainable_modules", part, [&](const Parameter& parameter) {
        return in_layers(parameter.layer) &&
               (is_all(options_.modules) || has_part(parameter.name, part));
      });
    }
    for (const std::string& part : options_.extra_modules) {
      choose("freeze_extra_modules", part, [&](const Parameter& parameter) {
        return parameter.layer < 0 && has_part(parameter.name, part);
      });
    }
  }

  void apply() const {
    for (std::size_t p = 0; p < chosen_.size(); ++p) graph_.parameters[p].trainable = chosen_[p];
  }

 private:
  bool in_layers(int layer) const {
    if (layer < 0) return false;
    return options_.layers > 0 ? layer >= layers_ - options_.layers : layer < -options_.layers;
  }

  template <class Wanted>
  void choose(std::string_view key, const std::string& text, const Wanted& wanted) {
    bool found = false;
    for (std::size_t p = 0; p < chosen_.size(); ++p) {
      if (!graph_.parameters[p].trainable || !wanted(graph_.parameters[p])) continue;
      chosen_[p] = found = true;
    }
    if (!found) user_error("{}: '{}' finds nothing. There are {}.", key, text, known_names(graph_));
  }

  Graph& graph_;
  const FreezeOptions& options_;
  std::int64_t layers_ = 0;
  std::vector<bool> chosen_;
};

Graph run(Graph graph, const FreezeOptions& options, bool by_layer) {
  Choice choice(graph, options);
  choice.by_pattern();
  if (by_layer) choice.by_layer();
  choice.apply();
  return graph;
}

}  // namespace

std::string describe_unfrozen(const FreezeOptions& options) {
  if (options.unfrozen.empty()) return {};
  return fmt::format(" (only {})", fmt::join(options.unfrozen, ", "));
}

Pass freeze_pass(const FreezeOptions& options, bool by_layer) {
  Pass pass{
      .name = "freeze",
      .needs = {},
      .gives = {},
      .breaks = {},
      .equality = Equality::changed,
      .run = [options, by_layer](Graph graph) { return run(std::move(graph), options, by_layer); }};
  if (!by_layer && options.unfrozen.empty()) pass.run = nullptr;
  return pass;
}

}  // namespace snug
