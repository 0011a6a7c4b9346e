#include "passes/row_tiles.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/philox.h"
#include "ir/builder.h"

namespace snug {
namespace {

Follow result_follows(Op op) {
  const bool sums = op == Op::linear_dw || op == Op::column_sum || op == Op::scale_columns_dw;
  return sums ? Follow::sum : Follow::rows;
}

/// Replaces a block by its tiles.
class Tiler {
 public:
  Tiler(Graph& graph, const RowBlock& block, std::int64_t tile_rows, std::int64_t seed)
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
    const std::int64_t row = whole.type.shape.elements() / block_.rows;
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
  const RowBlock& block_;
  std::int64_t tile_rows_;
  std::int64_t seed_;
  std::vector<std::size_t> before_;  ///< nodes between the block's, by where they go
  std::vector<std::size_t> after_;
  std::set<ValueId> results_;
  std::map<ValueId, std::string> names_;
  std::map<ValueId, ValueId> tile_;    ///< of the block's values and operands, in this tile
  std::map<ValueId, ValueId> newest_;  ///< of what the tiles make together
};

}  // namespace

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
    case Op::scale_columns:
      return i == 0 ? Follow::rows : Follow::whole;
    case Op::scale_columns_dw:
      return i < 2 ? Follow::rows : i == 3 ? Follow::sum : Follow::whole;
    case Op::dropout:
      return i == 1 ? Follow::whole : Follow::rows;
    default:
      return std::nullopt;
  }
}

void tile_rows(Graph& graph, const RowBlock& block, std::int64_t tile_rows, std::int64_t seed) {
  Tiler(graph, block, tile_rows, seed).run();
}

}  // namespace snug
