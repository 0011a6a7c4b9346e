#include "passes/recompute_limit.h"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>

#include "core/bytes.h"
#include "core/error.h"
#include "core/text.h"
#include "ir/liveness.h"
#include "ir/op.h"
#include "passes/nominal_cost.h"
#include "passes/recompute_clones.h"

namespace snug {
namespace {

std::size_t at(ValueId id) { return static_cast<std::size_t>(id); }
std::size_t at(int index) { return static_cast<std::size_t>(index); }

/// Keeping a value in every layer may lower the peak (what is recomputed in one go gets shorter)
/// where that is not too many values; with more layers the search for it is not worth its time.
constexpr std::size_t kFewLayers = 16;

/// What can only be kept or recomputed as a whole: the results of a forward node, and of all nodes
/// that write versions of them or look into them.
struct Unit {
  std::int64_t bytes = 0;  ///< of what others read
  double seconds = 0;      ///< of its nodes
  bool read = false;       ///< by backward
  bool always = false;     ///< kept in every choice of the trunk
  bool pinned = false;     ///< and in every other
  std::vector<int> needs;  ///< units of its layer that its nodes read
  friend bool operator==(const Unit&, const Unit&) = default;
};

struct Layer {
  std::vector<Unit> units;
  std::vector<std::vector<ValueId>> values;  ///< by unit
};

/// Where a forward value belongs.
struct Place {
  int layer = -1;
  int unit = -1;
};

/// Cuts the forward graph into layers and their units.
class LayerReader {
 public:
  explicit LayerReader(const Graph& graph)
      : graph_(graph),
        forward_(graph),
        places_(static_cast<std::size_t>(graph.value_count())),
        counted_(places_.size(), false) {}

  std::map<int, Layer> read() {
    for (const Node& node : graph_.nodes) {
      if (node.phase == Phase::forward && node.layer >= 0) add(node);
    }
    for (const Node& node : graph_.nodes) {
      if (node.phase != Phase::init) add_reads(node);
    }
    return std::move(layers_);
  }

 private:
  void add(const Node& node) {
    Place place;
    bool elsewhere = false;  // a result lives in storage that is kept in any case
    for (const ValueId id : node.outputs) {
      const ValueId root = graph_.root(id);
      if (root == id) continue;
      const Place owner = places_[at(root)];
      if (owner.layer == node.layer) {
        place = owner;
      } else {
        elsewhere = true;
        keep_always(owner);
      }
    }
    if (elsewhere) {
      keep_always(place);
      return;
    }
    Layer& layer = layers_[node.layer];
    if (place.unit < 0) {
      place = {node.layer, static_cast<int>(layer.units.size())};
      layer.units.emplace_back();
      layer.values.emplace_back();
    }
    Unit& unit = layer.units[at(place.unit)];
    if (!op_def(node.op).view) unit.seconds += nominal_seconds(cost_of(graph_, node));
    for (const ValueId id : node.outputs) {
      places_[at(id)] = place;
      layer.values[at(place.unit)].push_back(id);
      if (forward_.crosses_layers[at(id)]) unit.always = true;
    }
  }

  void keep_always(Place place) {
    if (place.unit < 0) return;
    Unit& unit = layers_[place.layer].units[at(place.unit)];
    unit.always = unit.pinned = true;
  }

  void add_reads(const Node& node) {
    const Place reader = node.phase == Phase::forward ? places_[at(node.outputs[0])] : Place{};
    for (const ValueId id : node.inputs) {
      if (!exists(id)) continue;
      const Place place = places_[at(id)];
      if (place.unit < 0) continue;
      const bool same_layer = reader.layer == place.layer;
      if (same_layer && reader.unit == place.unit) continue;
      Layer& layer = layers_[place.layer];
      Unit& unit = layer.units[at(place.unit)];
      if (node.phase != Phase::forward) unit.read = true;
      if (same_layer) {
        std::vector<int>& needs = layer.units[at(reader.unit)].needs;
        if (std::find(needs.begin(), needs.end(), place.unit) == needs.end()) {
          needs.push_back(place.unit);
        }
      }
      const ValueId root = graph_.root(id);
      if (!counted_[at(root)]) unit.bytes += graph_.value(root).type.bytes();
      counted_[at(root)] = true;
    }
  }

  const Graph& graph_;
  ForwardValues forward_;
  std::vector<Place> places_;
  std::vector<bool> counted_;
  std::map<int, Layer> layers_;
};

/// One unit of a layer's ranking.
struct Ranked {
  int unit = 0;
  double seconds = 0;
  double ratio = 0;
};

/// Ranks a layer's units: always the one that spares most time a byte, given those before it.
class Ranker {
 public:
  explicit Ranker(const std::vector<Unit>& units) : units_(units), kept_(units.size(), false) {
    for (std::size_t u = 0; u < units.size(); ++u) kept_[u] = units[u].always;
  }

  std::vector<Ranked> run() {
    std::vector<Ranked> ranked;
    double left = find_recomputed();
    while (const std::optional<Ranked> best = find_best(left)) {
      kept_[at(best->unit)] = true;
      ranked.push_back(*best);
      left = find_recomputed();
    }
    return ranked;
  }

 private:
  /// Sets recomputed_ to the units that must be recomputed; their time.
  double find_recomputed() {
    recomputed_.assign(units_.size(), false);
    std::vector<int> open;
    for (std::size_t u = 0; u < units_.size(); ++u) {
      if (units_[u].read) open.push_back(static_cast<int>(u));
    }
    double sum = 0;
    while (!open.empty()) {
      const int u = open.back();
      open.pop_back();
      if (kept_[at(u)] || recomputed_[at(u)]) continue;
      recomputed_[at(u)] = true;
      sum += units_[at(u)].seconds;
      open.insert(open.end(), units_[at(u)].needs.begin(), units_[at(u)].needs.end());
    }
    return sum;
  }

  /// Among what is recomputed; nothing when nothing is. No ratio is above the one before it.
  std::optional<Ranked> find_best(double left) {
    const std::vector<bool> candidates = recomputed_;
    std::optional<Ranked> best;
    for (std::size_t u = 0; u < units_.size(); ++u) {
      if (!candidates[u]) continue;
      kept_[u] = true;
      const double spared = left - find_recomputed();
      kept_[u] = false;
      const double bytes = static_cast<double>(std::max<std::int64_t>(1, units_[u].bytes));
      if (best && spared / bytes <= best->ratio) continue;
      best = {static_cast<int>(u), spared, spared / bytes};
    }
    if (best) lowest_ = best->ratio = std::min(lowest_, best->ratio);
    return best;
  }

  const std::vector<Unit>& units_;
  std::vector<bool> kept_;
  std::vector<bool> recomputed_;
  double lowest_ = std::numeric_limits<double>::infinity();
};

Graph skeleton_of(const Graph& graph) {
  Graph skeleton(graph.name());
  for (std::int64_t v = 0; v < graph.value_count(); ++v) {
    Value value = graph.value(static_cast<ValueId>(v));
    value.name = fmt::format("{}", v);
    skeleton.add_value(std::move(value));
  }
  for (const Node& node : graph.nodes) {
    if (node.phase == Phase::init) continue;
    Node bare = {node.op, node.inputs, node.outputs, {}, node.phase, node.lane, node.layer};
    skeleton.nodes.push_back(std::move(bare));
  }
  skeleton.outputs = graph.outputs;
  return skeleton;
}

/// Most bytes alive at once of the intervals that are `wanted`.
template <class Wanted>
std::int64_t most_alive(const Graph& graph, const Liveness& live, Wanted&& wanted) {
  std::vector<std::int64_t> change(graph.nodes.size() + 2, 0);
  const auto last = static_cast<std::int32_t>(graph.nodes.size()) - 1;
  for (const StorageInterval& interval : live.intervals) {
    if (!wanted(interval)) continue;
    change[static_cast<std::size_t>(std::max(interval.begin, 0))] += interval.bytes;
    change[static_cast<std::size_t>(std::min(interval.end, last)) + 1] -= interval.bytes;
  }
  std::int64_t alive = 0;
  std::int64_t most = 0;
  for (const std::int64_t bytes : change) most = std::max(most, alive += bytes);
  return most;
}

LivePeak peak_of(const Graph& graph) {
  const Liveness live = analyse_liveness(graph);
  const auto role = [&](const StorageInterval& interval) {
    return graph.value(interval.root).role;
  };
  const auto is_activation = [&](const StorageInterval& interval) {
    return interval.scope == Scope::call && role(interval) != Role::gradient;
  };
  LivePeak peak;
  peak.activations = most_alive(graph, live, is_activation);
  peak.with_gradients = most_alive(graph, live, [&](const StorageInterval& interval) {
    return is_activation(interval) || role(interval) == Role::gradient;
  });
  for (const StorageInterval& interval : live.intervals) {
    if (role(interval) == Role::gradient) peak.gradients += interval.bytes;
  }
  return peak;
}

}  // namespace

LivePeak live_peak(const Graph& differentiated) { return peak_of(skeleton_of(differentiated)); }

RecomputeChoices::RecomputeChoices(const Graph& differentiated)
    : skeleton_(skeleton_of(differentiated)),
      always_(static_cast<std::size_t>(differentiated.value_count()), true) {
  std::map<int, Layer> layers = LayerReader(differentiated).read();
  std::vector<Output> outputs;
  std::vector<std::pair<std::vector<Unit>, std::vector<Ranked>>> known;
  known.reserve(layers.size());
  for (auto& [index, layer] : layers) {
    auto same = std::find_if(known.begin(), known.end(),
                             [&](const auto& entry) { return entry.first == layer.units; });
    if (same == known.end()) {
      same = known.emplace(same, layer.units, Ranker(layer.units).run());
    }
    Output& output = outputs.emplace_back();
    for (std::size_t u = 0; u < layer.units.size(); ++u) {
      output.seconds += layer.units[u].seconds;
      std::vector<ValueId>& values = layer.values[u];
      if (!layer.units[u].always) {
        for (const ValueId id : values) always_[at(id)] = false;
      } else if (!layer.units[u].pinned) {
        output.values.insert(output.values.end(), values.begin(), values.end());
      }
    }
    int rank = 0;
    for (const Ranked& ranked : same->second) {
      steps_.push_back(
          {ranked.seconds, ranked.ratio, index, rank++, std::move(layer.values[at(ranked.unit)])});
    }
  }
  const int last_layer = layers.empty() ? -1 : layers.rbegin()->first;
  std::sort(steps_.begin(), steps_.end(), [&](const Step& a, const Step& b) {
    const bool a_last = a.layer == last_layer;
    const bool b_last = b.layer == last_layer;
    if (a_last != b_last) return a_last;
    if (a.ratio != b.ratio) return a.ratio > b.ratio;
    if (a.rank != b.rank) return a.rank < b.rank;
    return a.layer > b.layer;
  });
  drop_dominated(last_layer, layers.size());
  add_nested(outputs);
}

void RecomputeChoices::drop_dominated(int last_layer, std::size_t layers) {
  std::vector<std::size_t> candidates;
  for (std::size_t s = 1; s < steps_.size(); ++s) {
    const bool last_done = steps_[s - 1].layer == last_layer && steps_[s].layer != last_layer;
    const bool rank_done = layers <= kFewLayers && steps_[s].ratio != steps_[s - 1].ratio;
    if (last_done || rank_done) candidates.push_back(s);
  }
  std::size_t best = 0;
  std::int64_t least = peak(0).activations;
  for (const std::size_t choice : candidates) {
    const std::int64_t bytes = peak(choice).activations;
    if (bytes > least) continue;
    least = bytes;
    best = choice;
  }
  always_ = kept(best).values;
  steps_.erase(steps_.begin(), steps_.begin() + static_cast<std::ptrdiff_t>(best));
}

void RecomputeChoices::add_nested(const std::vector<Output>& outputs) {
  const auto layers = static_cast<int>(outputs.size());
  const std::int64_t trunk = peak(0).activations;
  // With fewer segments than this as much is alive at the peak, since they get longer.
  int fewest = 1;
  while (fewest * (fewest + 1) / 2 < layers) ++fewest;
  for (int segments = fewest; segments < layers; ++segments) {
    Nested choice;
    const std::vector<bool> keeps = outputs_kept(layers, segments);
    for (std::size_t l = 0; l < keeps.size(); ++l) {
      if (keeps[l]) continue;
      choice.seconds += outputs[l].seconds;
      choice.values.insert(choice.values.end(), outputs[l].values.begin(), outputs[l].values.end());
    }
    // Layers need not be alike.
    if (nested_.empty() || choice.seconds < nested_.back().seconds) {
      nested_.push_back(std::move(choice));
    }
  }
  if (!nested_.empty() && peak(0).activations >= trunk) nested_.clear();
}

Kept RecomputeChoices::kept(std::size_t choice) const {
  // Units that nothing needs again are not ranked: kept or not, nothing is cloned for them.
  Kept kept{always_, choice < nested_.size()};
  if (kept.nested) {
    for (const ValueId id : nested_[choice].values) kept.values[at(id)] = false;
    return kept;
  }
  for (std::size_t s = 0; s < choice - nested_.size(); ++s) {
    for (const ValueId id : steps_[s].values) kept.values[at(id)] = true;
  }
  return kept;
}

double RecomputeChoices::seconds(std::size_t choice) const {
  const std::size_t first = choice < nested_.size() ? 0 : choice - nested_.size();
  double left = choice < nested_.size() ? nested_[choice].seconds : 0;
  for (std::size_t s = first; s < steps_.size(); ++s) left += steps_[s].seconds;
  return left;
}

LivePeak RecomputeChoices::peak(std::size_t choice) const {
  return peak_of(with_clones(skeleton_, kept(choice)));
}

void refuse_limit(std::int64_t limit, std::int64_t tightest) {
  user_error(
      "activation_checkpointing={}: with all that helps recomputed, activations still take {}. "
      "Nearest, and the tightest that works: activation_checkpointing={}.",
      exact_bytes({limit}), binary_bytes(tightest), exact_bytes({tightest}));
}

Kept kept_under_limit(const Graph& differentiated, std::int64_t limit) {
  const RecomputeChoices choices(differentiated);
  const auto fits = [&](std::size_t c) { return choices.peak(c).activations <= limit; };
  if (!fits(0)) refuse_limit(limit, choices.peak(0).activations);
  return choices.kept(choices.last(fits));
}

}  // namespace snug
