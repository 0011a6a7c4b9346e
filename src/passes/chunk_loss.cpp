#include "passes/chunk_loss.h"

#include <algorithm>

#include "ir/op.h"

namespace snug {
namespace {

/// Matrix products run at full speed from this many rows on.
constexpr std::int64_t kRowQuantum = 16;

Graph run(Graph graph, std::int64_t chunk_bytes) {
  for (Node& node : graph.nodes) {
    if (node.op != Op::head_loss) continue;
    const std::int64_t rows = graph.value(node.inputs[0]).type.shape[0];
    const std::int64_t vocabulary = graph.value(node.inputs[1]).type.shape[0];
    std::int64_t chunk = rows;
    if (chunk_bytes > 0) {
      chunk = chunk_bytes / (vocabulary * size_of(DType::f32)) / kRowQuantum * kRowQuantum;
      chunk = std::clamp(chunk, std::min(rows, kRowQuantum), rows);
    }
    node.attributes.set("chunk_rows", chunk);
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
