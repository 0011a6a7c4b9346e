#include "passes/mlp_chunks.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "ir/op.h"
#include "ir/storage_roots.h"
#include "passes/row_tiles.h"

namespace snug {
namespace {

/// Matrix products run at full speed from this many rows on.
constexpr std::int64_t kRowQuantum = 16;

/// Whether result 0 is as wide as operand 0 and made of it element by element.
bool is_elementwise(Op op) {
  switch (op) {
    case Op::add:
    case Op::sub:
    case Op::mul:
    case Op::scale:
    case Op::cast:
    case Op::dropout:
    case Op::scale_columns:
      return true;
    default:
      return false;
  }
}

/// Nodes of one layer and phase with none of another layer between them: what a layer's forward,
/// its backward or the recomputation of its output is.
struct Run {
  int layer = -1;
  Phase phase = Phase::forward;
  std::size_t begin = 0;  ///< in the graph's list, where nodes of no layer may lie between
  std::size_t end = 0;
};

std::vector<Run> runs_of(const Graph& graph) {
  std::vector<Run> runs;
  std::map<Phase, std::size_t> open;  // the present layer's runs
  int layer = -1;
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    if (node.layer < 0) continue;
    if (node.layer != layer) open.clear();
    layer = node.layer;
    const auto [run, fresh] = open.try_emplace(node.phase, runs.size());
    if (fresh) runs.push_back({layer, node.phase, n, n});
    runs[run->second].end = n + 1;
  }
  return runs;
}

/// A graph whose nodes of a layer are at hand.
struct Layers {
  explicit Layers(const Graph& g) : graph(g), roots(storage_roots(g)) {
    for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
      const int layer = graph.nodes[n].layer;
      if (layer < 0) continue;
      nodes.resize(std::max(nodes.size(), static_cast<std::size_t>(layer) + 1));
      nodes[static_cast<std::size_t>(layer)].push_back(n);
    }
  }

  const Graph& graph;
  std::vector<ValueId> roots;
  std::vector<std::vector<std::size_t>> nodes;  ///< positions in program order, by layer
};

/// Finds the block of one run.
class BlockFinder {
 public:
  BlockFinder(const Layers& layers, const Run& run) : layers_(layers), graph_(layers.graph) {
    for (const std::size_t n : layers.nodes[static_cast<std::size_t>(run.layer)]) {
      const bool inside = n >= run.begin && n < run.end && graph_.nodes[n].phase == run.phase;
      (inside ? positions_ : others_).push_back(n);
    }
  }

  /// Nothing when the run has no such nodes or they cannot be tiled.
  std::optional<RowBlock> find() {
    mark_inner();
    if (inner_.empty()) return std::nullopt;
    for (const std::size_t n : positions_) {
      const Node& node = graph_.nodes[n];
      if (!any_of(node.inputs, inner_) && !any_of(node.outputs, inner_)) continue;
      members_.insert(n);
    }
    // What another run reads must stay whole.
    const bool read = std::any_of(others_.begin(), others_.end(),
                                  [&](std::size_t n) { return reads_made(graph_.nodes[n]); });
    if (read) return std::nullopt;
    add_between();
    if (members_.empty() || !can_be_tiled()) return std::nullopt;
    return RowBlock{{members_.begin(), members_.end()}, rows_, 0};
  }

 private:
  using Roots = std::set<ValueId>;

  ValueId root(ValueId id) const { return layers_.roots[static_cast<std::size_t>(id)]; }
  bool any_of(const std::vector<ValueId>& ids, const Roots& roots) const {
    return std::any_of(ids.begin(), ids.end(),
                       [&](ValueId id) { return exists(id) && roots.contains(root(id)); });
  }
  void add(const std::vector<ValueId>& ids, Roots& roots) const {
    for (const ValueId id : ids) {
      if (exists(id)) roots.insert(root(id));
    }
  }

  /// Storage of values as wide as the MLP: what silu_mul and its gradient read and write, and what
  /// elementwise nodes make of it or make it of.
  void mark_inner() {
    for (const std::size_t n : positions_) {
      const Node& node = graph_.nodes[n];
      add(node.outputs, made_);
      if (node.op != Op::silu_mul && node.op != Op::silu_mul_grad) continue;
      rows_ = graph_.value(node.outputs[0]).type.shape[0];
      add(node.outputs, inner_);
      add(node.inputs, inner_);
    }
    for (std::size_t known = 0; known != inner_.size();) {
      known = inner_.size();
      for (const std::size_t n : positions_) mark_beside(graph_.nodes[n]);
    }
  }

  void mark_beside(const Node& node) {
    if (!is_elementwise(node.op)) return;
    std::vector<ValueId> wide = {node.outputs[0]};
    const Shape& shape = graph_.value(node.outputs[0]).type.shape;
    for (const ValueId id : node.inputs) {
      if (exists(id) && graph_.value(id).type.shape == shape) wide.push_back(id);
    }
    if (any_of(wide, inner_)) add(wide, inner_);
  }

  bool reads_made(const Node& node) const {
    return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) {
      if (!exists(id)) return false;
      return inner_.contains(root(id)) && made_.contains(root(id));
    });
  }

  /// Nodes that need a member and are needed by one become members.
  void add_between() {
    Roots made;  // by members and what needs them
    std::set<std::size_t> needing;
    for (const std::size_t n : positions_) {
      const Node& node = graph_.nodes[n];
      const bool needs = any_of(node.inputs, made);
      if (needs) needing.insert(n);
      if (needs || members_.contains(n)) add(node.outputs, made);
    }
    Roots wanted;  // by members
    for (auto n = positions_.rbegin(); n != positions_.rend(); ++n) {
      const Node& node = graph_.nodes[*n];
      const bool feeds = any_of(node.outputs, wanted);
      if (feeds && needing.contains(*n)) members_.insert(*n);
      if (feeds || members_.contains(*n)) add(node.inputs, wanted);
    }
  }

  /// Every member has a rule, rows of all operands can be looked into, and nothing that was begun
  /// outside is added to.
  bool can_be_tiled() const {
    Roots made;
    for (const std::size_t n : members_) add(graph_.nodes[n].outputs, made);
    for (const std::size_t n : members_) {
      const Node& node = graph_.nodes[n];
      if (op_def(node.op).view || !operand_follows(node.op, 0)) return false;
      for (std::size_t i = 0; i < node.inputs.size(); ++i) {
        const ValueId id = node.inputs[i];
        if (!exists(id) || operand_follows(node.op, i) != Follow::rows) continue;
        const Value& value = graph_.value(id);
        const Shape& shape = value.type.shape;
        const bool by_rows = shape.rank() == 1 || shape.rank() == 2;
        if (value.row_stride != 0 || !by_rows || shape[0] != rows_) return false;
        const bool adds = static_cast<int>(i) == op_def(node.op).accumulator;
        if (adds && !made.contains(root(id))) return false;
      }
    }
    return true;
  }

  const Layers& layers_;
  const Graph& graph_;
  std::vector<std::size_t> positions_;  ///< of the run's nodes, in program order
  std::vector<std::size_t> others_;     ///< of the layer's other nodes
  std::int64_t rows_ = 0;
  Roots inner_;
  Roots made_;  ///< by this run
  std::set<std::size_t> members_;
};

/// Rows of a tile when so many are cut into `count` tiles of whole quanta.
std::int64_t rows_of_tile(std::int64_t rows, std::int64_t count) {
  const std::int64_t quanta = (rows + kRowQuantum - 1) / kRowQuantum;
  return (quanta + count - 1) / count * kRowQuantum;
}

Graph run(Graph graph, std::int64_t count, std::int64_t seed) {
  std::vector<RowBlock> blocks;
  const Layers layers(graph);
  for (const Run& run : runs_of(graph)) {
    std::optional<RowBlock> block = BlockFinder(layers, run).find();
    if (!block) continue;
    block->tile_rows = rows_of_tile(block->rows, count);
    if (block->tile_rows < block->rows) blocks.push_back(std::move(*block));
  }
  std::sort(blocks.begin(), blocks.end(),
            [](const RowBlock& a, const RowBlock& b) { return a.nodes.front() < b.nodes.front(); });
  tile_rows(graph, blocks, seed);
  graph.remove_dead();
  return graph;
}

}  // namespace

Pass mlp_chunks_pass(const MlpChunkOptions& options, std::int64_t seed) {
  Pass pass{.name = "mlp_chunks",
            .needs = {facts::kTyped},
            .gives = {},
            .breaks = {},
            .equality = options.count > 1 ? Equality::reordered : Equality::exact,
            .run = [count = options.count, seed](Graph graph) {
              return run(std::move(graph), count, seed);
            }};
  if (options.count <= 1) pass.run = nullptr;
  return pass;
}

}  // namespace snug
