#include "passes/chunk_loss.h"

#include <algorithm>

#include "ir/op.h"

namespace snug {
namespace {

/// Matrix products want at least so many rows and classes of a tile, and multiples of them.
constexpr std::int64_t kRowQuantum = 16;
constexpr std::int64_t kClassQuantum = 64;

/// The largest multiple of `quantum` within `limit`, or `quantum`, or all.
std::int64_t piece(std::int64_t limit, std::int64_t quantum, std::int64_t all) {
  return std::min(all, std::max(quantum, limit / quantum * quantum));
}

struct Tile {
  std::int64_t rows;
  std::int64_t classes;
};

/// All rows of a chunk share their gradient's sums, so rows are cut last: when their fp32 sums
/// [rows, width] alone would take more than the limit.
Tile tile_of(std::int64_t limit, std::int64_t rows, std::int64_t width, std::int64_t vocabulary) {
  const std::int64_t f32 = size_of(DType::f32);
  if (limit == 0 || rows * vocabulary <= limit / f32) return {rows, vocabulary};
  const std::int64_t chunk = piece(limit / f32 / width, kRowQuantum, rows);
  return {chunk, piece(limit / f32 / chunk, kClassQuantum, vocabulary)};
}

Graph run(Graph graph, std::int64_t limit) {
  for (Node& node : graph.nodes) {
    if (node.op != Op::head_loss && node.op != Op::adapted_head_loss) continue;
    const Shape& x = graph.value(node.inputs[0]).type.shape;
    const Shape& w = graph.value(node.inputs[1]).type.shape;
    const Tile tile = tile_of(limit, x[0], x[1], w[0]);
    node.attributes.set("chunk_rows", tile.rows);
    node.attributes.set("chunk_columns", tile.classes);
  }
  return graph;
}

}  // namespace

Pass chunk_loss_pass(const LossOptions& options) {
  return {
      .name = "chunk_loss",
      .needs = {},
      .gives = {},
      .breaks = {},
      .equality = Equality::reordered,
      .run = [bytes = options.chunk.count](Graph graph) { return run(std::move(graph), bytes); }};
}

}  // namespace snug
