#include "passes/mlp_chunks.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "core/philox.h"
#include "ir/builder.h"
#include "ir/op.h"

namespace snug {
namespace {

/// Matrix products run at full speed from this many rows on.
constexpr std::int64_t kRowQuantum = 16;

/// How an operand follows when a node is run on some of its rows.
enum class Follow : std::uint8_t { rows, whole, sum };

/// How operand i of a node that can be tiled follows; nothing for other ops.
std::optional<Follow> operand_follows(Op op, std::size_t i) {
  switch (op) {
    case Op::add:
    case Op::sub:
    case Op::mul:
    case Op::scale:
    case Op::cast:
    case Op::silu_mul:
    case Op::silu_mul_grad:
      return Follow::rows;
    case Op::linear:
      return i == 0 || i == 3 ? Follow::rows : Follow::whole;
    case Op::linear_dx:
      return i == 0 || i == 2 ? Follow::rows : Follow::whole;
    case Op::packed_linear:
      return i == 0 || i == 6 ? Follow::rows : Follow::whole;
    case Op::packed_linear_dx:
      return i == 0 || i == 5 ? Follow::rows : Follow::whole;
    case Op::linear_dw:
      return i < 2 ? Follow::rows : i == 2 ? Follow::sum : Follow::whole;
    case Op::column_sum:
      return i == 0 ? Follow::rows : i == 1 ? Follow::sum : Follow::whole;
    default:
      return std::nullopt;
  }
}

Follow result_follows(Op op) {
  return op == Op::linear_dw || op == Op::column_sum ? Follow::sum : Follow::rows;
}

/// The nodes of a layer and phase that are tiled, as positions in program order.
struct Block {
  std::vector<std::size_t> nodes;
  std::int64_t rows = 0;
};

bool is_elementwise(Op op) {
  return op == Op::add || op == Op::sub || op == Op::mul || op == Op::scale || op == Op::cast;
}

/// Finds the block of one layer and phase.
class BlockFinder {
 public:
  /// `positions`: of the layer's nodes, in program order.
  BlockFinder(const Graph& graph, const std::vector<std::size_t>& positions, Phase phase)
      : graph_(graph), positions_(positions), phase_(phase) {}

  /// Nothing when the layer has no such nodes or they cannot be tiled.
  std::optional<Block> find() {
    mark_inner();
    if (inner_.empty()) return std::nullopt;
    for (const std::size_t n : positions_) {
      const Node& node = graph_.nodes[n];
      if (!any_of(node.inputs, inner_) && !any_of(node.outputs, inner_)) continue;
      if (node.phase == phase_) {
        members_.insert(n);
      } else if (reads_made(node)) {
        return std::nullopt;  // another phase reads it: it must stay whole
      }
    }
    add_between();
    if (members_.empty() || !can_be_tiled()) return std::nullopt;
    return Block{{members_.begin(), members_.end()}, rows_};
  }

 private:
  using Roots = std::set<ValueId>;

  bool any_of(const std::vector<ValueId>& ids, const Roots& roots) const {
    return std::any_of(ids.begin(), ids.end(),
                       [&](ValueId id) { return exists(id) && roots.contains(graph_.root(id)); });
  }
  void add(const std::vector<ValueId>& ids, Roots& roots) const {
    for (const ValueId id : ids) {
      if (exists(id)) roots.insert(graph_.root(id));
    }
  }

  /// Storage of values as wide as the MLP: what silu_mul and its gradient read and write, and what
  /// elementwise nodes make of it.
  void mark_inner() {
    for (const std::size_t n : positions_) {
      const Node& node = graph_.nodes[n];
      if (node.phase != phase_) continue;
      add(node.outputs, made_);
      const bool center = node.op == Op::silu_mul || node.op == Op::silu_mul_grad;
      if (!center && !(is_elementwise(node.op) && any_of(node.inputs, inner_))) continue;
      rows_ = graph_.value(node.outputs[0]).type.shape[0];
      add(node.outputs, inner_);
      if (center) add(node.inputs, inner_);
    }
  }

  bool reads_made(const Node& node) const {
    return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) {
      if (!exists(id)) return false;
      const ValueId root = graph_.root(id);
      return inner_.contains(root) && made_.contains(root);
    });
  }

  /// Nodes that need a member and are needed by one become members.
  void add_between() {
    Roots made;  // by members and what needs them
    std::set<std::size_t> needing;
    for (const std::size_t n : positions_) {
      const Node& node = graph_.nodes[n];
      if (node.phase != phase_) continue;
      const bool needs = any_of(node.inputs, made);
      if (needs) needing.insert(n);
      if (needs || members_.contains(n)) add(node.outputs, made);
    }
    Roots wanted;  // by members
    for (auto n = positions_.rbegin(); n != positions_.rend(); ++n) {
      const Node& node = graph_.nodes[*n];
      if (node.phase != phase_) continue;
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
        if (value.row_stride != 0 || value.type.shape.rank() != 2 || value.type.shape[0] != rows_) {
          return false;
        }
        const bool adds = static_cast<int>(i) == op_def(node.op).accumulator;
        if (adds && !made.contains(graph_.root(id))) return false;
      }
    }
    return true;
  }

  const Graph& graph_;
  const std::vector<std::size_t>& positions_;
  Phase phase_;
  std::int64_t rows_ = 0;
  Roots inner_;
  Roots made_;  ///< by this layer and phase
  std::set<std::size_t> members_;
};

/// Replaces a block by its tiles.
class Tiler {
 public:
  Tiler(Graph& graph, const Block& block, std::int64_t tile_rows, std::int64_t seed)
      : graph_(graph), block_(block), tile_rows_(tile_rows), seed_(seed) {}

  /// Leaves the graph as it is when a node of elsewhere both needs the block and feeds it.
  void run() {
    if (!part_others()) return;
    std::vector<Node> old = std::move(graph_.nodes);
    std::vector<Node> block;
    for (const std::size_t n : block_.nodes) block.push_back(old[n]);
    graph_.nodes.clear();
    const std::size_t first = block_.nodes.front();
    const std::size_t last = block_.nodes.back();
    const auto move = [&](std::size_t n) { graph_.nodes.push_back(std::move(old[n])); };
    for (std::size_t n = 0; n < first; ++n) move(n);
    for (const std::size_t n : before_) move(n);
    find_results(old, block);
    for (std::int64_t begin = 0; begin < block_.rows; begin += tile_rows_) {
      add_tile(block, begin, std::min(begin + tile_rows_, block_.rows));
    }
    for (const std::size_t n : after_) move(n);
    for (std::size_t n = last + 1; n < old.size(); ++n) move(n);
    for (const auto& [from, to] : newest_) graph_.replace_uses(from, to);
  }

 private:
  bool in_block(std::size_t n) const {
    return std::binary_search(block_.nodes.begin(), block_.nodes.end(), n);
  }

  /// Sorts the nodes between the block's into those before it and those after it.
  bool part_others() {
    std::set<ValueId> written;  // storage the block or what comes after it writes
    std::set<ValueId> late;     // of it, what comes after the block
    std::set<ValueId> read;     // storage the block reads
    for (std::size_t n = block_.nodes.front(); n <= block_.nodes.back(); ++n) {
      const Node& node = graph_.nodes[n];
      const auto any = [&](const std::vector<ValueId>& ids, const std::set<ValueId>& roots) {
        return std::any_of(ids.begin(), ids.end(), [&](ValueId id) {
          return exists(id) && roots.contains(graph_.root(id));
        });
      };
      if (in_block(n)) {
        if (any(node.inputs, late)) return false;
        for (const ValueId id : node.inputs) {
          if (exists(id)) read.insert(graph_.root(id));
        }
        for (const ValueId id : node.outputs) written.insert(graph_.root(id));
        continue;
      }
      const bool needs_block = any(node.inputs, written);
      if (!needs_block && any(node.outputs, read)) return false;  // overwrites what a tile reads
      (needs_block ? after_ : before_).push_back(n);
      if (!needs_block) continue;
      for (const ValueId id : node.outputs) {
        written.insert(graph_.root(id));
        late.insert(graph_.root(id));
      }
    }
    return true;
  }

  /// The block's results by rows that others read.
  void find_results(const std::vector<Node>& old, const std::vector<Node>& block) {
    std::set<ValueId> made;
    for (const Node& node : block) {
      if (result_follows(node.op) == Follow::rows) {
        made.insert(node.outputs.begin(), node.outputs.end());
      }
    }
    const auto note = [&](ValueId id) {
      if (exists(id) && made.contains(id)) results_.insert(id);
    };
    for (const ValueId id : graph_.outputs) note(id);
    for (std::size_t n = 0; n < old.size(); ++n) {
      if (in_block(n)) continue;
      // Nodes before the block were moved out and cannot read its results.
      for (const ValueId id : old[n].inputs) note(id);
    }
  }

  void add_tile(const std::vector<Node>& block, std::int64_t begin, std::int64_t end) {
    tile_.clear();
    for (const Node& original : block) {
      Node node = original;
      const Follow follow = result_follows(node.op);
      for (std::size_t i = 0; i < node.inputs.size(); ++i) {
        if (exists(node.inputs[i]) && operand_follows(node.op, i) == Follow::rows) {
          node.inputs[i] = rows_of(node.inputs[i], begin, end, original);
        }
      }
      if (follow == Follow::sum) {
        add_sum(node, begin);
      } else {
        for (std::size_t i = 0; i < node.outputs.size(); ++i) {
          node.outputs[i] = new_rows(original.outputs[i], begin, end);
        }
        graph_.nodes.push_back(node);
        for (std::size_t i = 0; i < node.outputs.size(); ++i) {
          if (results_.contains(original.outputs[i])) {
            collect(original.outputs[i], node.outputs[i], begin, original);
          }
        }
      }
    }
  }

  /// Rows of an operand: the tile's own, or a look into what was computed before.
  ValueId rows_of(ValueId id, std::int64_t begin, std::int64_t end, const Node& reader) {
    const auto known = tile_.find(id);
    if (known != tile_.end()) return known->second;
    const Value& whole = graph_.value(id);
    const std::int64_t row = whole.type.shape[1];
    Value rows = whole;
    rows.name = graph_.fresh_name(fmt::format("{}/rows{}", whole.name, begin));
    rows.type.shape.set(0, end - begin);
    rows.base = id;
    rows.offset = begin * row;
    rows.scope = whole.scope;
    const std::string shape = shape_text(rows.type.shape);
    const ValueId view = graph_.add_value(std::move(rows));
    graph_.nodes.push_back({Op::view,
                            {id},
                            {view},
                            {{"offset", begin * row}, {"shape", shape}},
                            reader.phase,
                            reader.lane,
                            reader.layer});
    return tile_[id] = view;
  }

  ValueId new_rows(ValueId id, std::int64_t begin, std::int64_t end) {
    Value rows = graph_.value(id);
    rows.name = graph_.fresh_name(fmt::format("{}/tile{}", name_of(id), begin));
    rows.type.shape.set(0, end - begin);
    if (exists(rows.base)) rows.base = tile_.at(rows.base);
    return tile_[id] = graph_.add_value(std::move(rows));
  }

  /// The tile's part of a sum over all rows: a version of the tiles' before it.
  void add_sum(Node& node, std::int64_t begin) {
    const ValueId id = node.outputs[0];
    const auto before = newest_.find(id);
    if (before == newest_.end()) {
      node.outputs[0] = newest_[id] = successor(id);
    } else {
      const auto slot = static_cast<std::size_t>(op_def(node.op).accumulator);
      node.inputs.resize(std::max(node.inputs.size(), slot + 2), kNoValue);
      node.inputs[slot] = before->second;
      Value sum = graph_.value(before->second);
      sum.base = before->second;
      sum.name = graph_.fresh_name(fmt::format("{}/tile{}", name_of(id), begin));
      if (sum.type.dtype != DType::f32) {
        node.inputs[slot + 1] = draw();
        node.attributes.set("seed", seed_);
        node.attributes.set("stream", static_cast<std::int64_t>(stream_hash(sum.name)));
      }
      node.outputs[0] = before->second = graph_.add_value(std::move(sum));
    }
    graph_.nodes.push_back(node);
  }

  /// Writes a tile's rows into the whole result.
  void collect(ValueId id, ValueId part, std::int64_t begin, const Node& maker) {
    const auto before = newest_.find(id);
    Attributes attributes{{"begin", begin}};
    ValueId whole = kNoValue;
    ValueId next = kNoValue;
    if (before == newest_.end()) {
      attributes.set("rows", block_.rows);
      next = newest_[id] = successor(id);
      graph_.value(next).base = kNoValue;
    } else {
      whole = before->second;
      Value version = graph_.value(whole);
      version.base = whole;
      version.name = graph_.fresh_name(fmt::format("{}/rows{}", name_of(id), begin));
      next = before->second = graph_.add_value(std::move(version));
    }
    graph_.nodes.push_back(
        {Op::write_rows, {whole, part}, {next}, attributes, maker.phase, maker.lane, maker.layer});
  }

  /// A value that takes over the name of `id`, which nothing will make any more.
  ValueId successor(ValueId id) {
    Value value = graph_.value(id);
    names_[id] = value.name;
    graph_.rename_value(id, graph_.fresh_name(value.name + "/whole"));
    return graph_.add_value(std::move(value));
  }

  /// The name a value had before a successor took it over.
  const std::string& name_of(ValueId id) const {
    const auto known = names_.find(id);
    return known == names_.end() ? graph_.value(id).name : known->second;
  }

  ValueId draw() {
    const ValueId known = graph_.find("scalar/draw");
    if (exists(known)) return known;
    return Builder(graph_).input("scalar/draw", {DType::i64, Shape{}}, Role::scalar, Scope::run);
  }

  Graph& graph_;
  const Block& block_;
  std::int64_t tile_rows_;
  std::int64_t seed_;
  std::vector<std::size_t> before_;  ///< nodes between the block's, by where they go
  std::vector<std::size_t> after_;
  std::set<ValueId> results_;
  std::map<ValueId, std::string> names_;
  std::map<ValueId, ValueId> tile_;    ///< of the block's values and operands, in this tile
  std::map<ValueId, ValueId> newest_;  ///< of what the tiles make together
};

void tile(Graph& graph, int layer, Phase phase, std::int64_t count, std::int64_t seed) {
  std::vector<std::size_t> positions;
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    if (graph.nodes[n].layer == layer) positions.push_back(n);
  }
  const std::optional<Block> block = BlockFinder(graph, positions, phase).find();
  if (!block) return;
  const std::int64_t quanta = (block->rows + kRowQuantum - 1) / kRowQuantum;
  const std::int64_t tile_rows = (quanta + count - 1) / count * kRowQuantum;
  if (tile_rows < block->rows) Tiler(graph, *block, tile_rows, seed).run();
}

Graph run(Graph graph, std::int64_t count, std::int64_t seed) {
  if (count <= 1) return graph;
  int layers = 0;
  for (const Node& node : graph.nodes) layers = std::max(layers, node.layer + 1);
  for (int layer = 0; layer < layers; ++layer) {
    tile(graph, layer, Phase::forward, count, seed);
    tile(graph, layer, Phase::backward, count, seed);
  }
  graph.remove_dead();
  return graph;
}

}  // namespace

Pass mlp_chunks_pass(const MlpChunkOptions& options, std::int64_t seed) {
  return {.name = "mlp_chunks",
          .needs = {facts::kTyped},
          .gives = {},
          .breaks = {},
          .equality = options.count > 1 ? Equality::reordered : Equality::exact,
          .run = [count = options.count, seed](Graph graph) {
            return run(std::move(graph), count, seed);
          }};
}

}  // namespace snug
