#include "passes/row_tiles.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/philox.h"
#include "ir/builder.h"
#include "ir/storage_roots.h"

namespace snug {
namespace {

Follow result_follows(Op op) {
  const bool sums = op == Op::linear_dw || op == Op::column_sum || op == Op::scale_columns_dw;
  return sums ? Follow::sum : Follow::rows;
}

/// Small sets of values, emptied at once.
class Marks {
 public:
  explicit Marks(std::size_t values) : marked_(values, 0) {}
  void add(ValueId id) { marked_[static_cast<std::size_t>(id)] = round_; }
  bool has(ValueId id) const { return marked_[static_cast<std::size_t>(id)] == round_; }
  void clear() { ++round_; }

 private:
  std::vector<std::int32_t> marked_;
  std::int32_t round_ = 1;
};

/// Replaces blocks by their tiles while it copies the list of nodes. Nodes' operands are as they
/// were in the old list until the node is copied.
class Tiler {
 public:
  Tiler(Graph& graph, std::int64_t seed)
      : graph_(graph),
        seed_(seed),
        old_(std::move(graph.nodes)),
        reads_(static_cast<std::size_t>(graph.value_count()), 0),
        replaced_(reads_.size(), kNoValue),
        written_(reads_.size()),
        late_(reads_.size()),
        read_(reads_.size()) {
    graph_.nodes.clear();
    for (const ValueId id : graph_.outputs) ++reads_[at(id)];
    for (const Node& node : old_) {
      for (const ValueId id : node.inputs) {
        if (exists(id)) ++reads_[at(id)];
      }
    }
  }

  void run(std::span<const RowBlock> blocks) {
    std::size_t next = 0;
    for (const RowBlock& block : blocks) {
      check(block.nodes.front() >= next, "a block of rows begins within another");
      block_ = &block;
      if (!part_others()) continue;
      for (; next < block.nodes.front(); ++next) copy(next);
      for (const std::size_t n : before_) copy(n);
      add_tiles();
      for (const std::size_t n : after_) copy(n);
      next = block.nodes.back() + 1;
    }
    for (; next < old_.size(); ++next) copy(next);
    for (ValueId& id : graph_.outputs) id = present(id);
  }

 private:
  static std::size_t at(ValueId id) { return static_cast<std::size_t>(id); }
  bool in_block(std::size_t n) const {
    return std::binary_search(block_->nodes.begin(), block_->nodes.end(), n);
  }
  /// The value to read instead of an old one.
  ValueId present(ValueId id) const {
    const bool replaced = exists(id) && at(id) < replaced_.size() && exists(replaced_[at(id)]);
    return replaced ? replaced_[at(id)] : id;
  }
  void to_present(Node& node) {
    for (ValueId& id : node.inputs) id = present(id);
    for (const ValueId id : node.outputs) graph_.value(id).base = present(graph_.value(id).base);
  }
  void copy(std::size_t n) {
    to_present(old_[n]);
    graph_.nodes.push_back(std::move(old_[n]));
  }

  /// Sorts the nodes between the block's into those before it and those after it.
  bool part_others() {
    before_.clear();
    after_.clear();
    written_.clear();  // storage the block or what comes after it writes
    late_.clear();     // of it, what comes after the block
    read_.clear();     // storage the block reads
    const auto any = [&](const std::vector<ValueId>& ids, const Marks& roots) {
      return std::any_of(ids.begin(), ids.end(),
                         [&](ValueId id) { return exists(id) && roots.has(old_root(id)); });
    };
    for (std::size_t n = block_->nodes.front(); n <= block_->nodes.back(); ++n) {
      const Node& node = old_[n];
      if (in_block(n)) {
        if (any(node.inputs, late_)) return false;
        for (const ValueId id : node.inputs) {
          if (exists(id)) read_.add(old_root(id));
        }
        for (const ValueId id : node.outputs) written_.add(old_root(id));
        continue;
      }
      const bool needs_block = any(node.inputs, written_);
      if (!needs_block && any(node.outputs, read_)) return false;  // overwrites what a tile reads
      (needs_block ? after_ : before_).push_back(n);
      if (!needs_block) continue;
      for (const ValueId id : node.outputs) {
        written_.add(old_root(id));
        late_.add(old_root(id));
      }
    }
    return true;
  }

  /// The old value whose storage `id` shares.
  ValueId old_root(ValueId id) const { return roots_[at(id)]; }

  void add_tiles() {
    std::vector<Node> nodes;
    nodes.reserve(block_->nodes.size());
    for (const std::size_t n : block_->nodes) {
      to_present(old_[n]);
      nodes.push_back(std::move(old_[n]));
    }
    find_results(nodes);
    names_.clear();
    newest_.clear();
    for (std::int64_t begin = 0; begin < block_->rows; begin += block_->tile_rows) {
      add_tile(nodes, begin, std::min(begin + block_->tile_rows, block_->rows));
    }
    for (const auto& [from, to] : newest_) replaced_[at(from)] = to;
  }

  /// The block's results by rows that others read.
  void find_results(const std::vector<Node>& block) {
    results_.clear();
    std::map<ValueId, std::int32_t> within;
    for (const Node& node : block) {
      if (result_follows(node.op) != Follow::rows) continue;
      for (const ValueId id : node.outputs) within[id] = 0;
    }
    for (const Node& node : block) {
      for (const ValueId id : node.inputs) {
        const auto made = within.find(id);
        if (made != within.end()) ++made->second;
      }
    }
    for (const auto& [id, reads] : within) {
      if (reads_[at(id)] > reads) results_.insert(id);
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
        continue;
      }
      node.attributes.set("whole_rows", block_->rows);
      for (ValueId& id : node.outputs) id = new_rows(id, begin, end);
      graph_.nodes.push_back(node);
      for (std::size_t i = 0; i < node.outputs.size(); ++i) {
        if (results_.contains(original.outputs[i])) {
          collect(original.outputs[i], node.outputs[i], begin, original);
        }
      }
    }
  }

  /// Rows of an operand: the tile's own, or a look into what was computed before.
  ValueId rows_of(ValueId id, std::int64_t begin, std::int64_t end, const Node& reader) {
    const auto known = tile_.find(id);
    if (known != tile_.end()) return known->second;
    const Value& whole = graph_.value(id);
    const std::int64_t row = whole.type.shape.elements() / block_->rows;
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
      attributes.set("rows", block_->rows);
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
  std::int64_t seed_;
  std::vector<Node> old_;
  std::vector<ValueId> roots_ = storage_roots(graph_);  ///< of old values
  std::vector<std::int32_t> reads_;                     ///< of old values
  std::vector<ValueId> replaced_;                       ///< what stands for an old value now
  Marks written_;
  Marks late_;
  Marks read_;
  const RowBlock* block_ = nullptr;
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

void tile_rows(Graph& graph, std::span<const RowBlock> blocks, std::int64_t seed) {
  if (!blocks.empty()) Tiler(graph, seed).run(blocks);
}

}  // namespace snug
