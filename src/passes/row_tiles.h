#pragma once
// Nodes run on some rows of their operands at a time.

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "ir/graph.h"
#include "ir/op.h"

namespace snug {

/// How an operand follows when a node is run on some of its rows.
enum class Follow : std::uint8_t { rows, whole, sum };

/// How operand i of a node that can be tiled follows; nothing for other ops.
std::optional<Follow> operand_follows(Op op, std::size_t i);

/// Nodes that are tiled together, as positions in program order, and the rows of all operands and
/// results that follow by rows.
struct RowBlock {
  std::vector<std::size_t> nodes;
  std::int64_t rows = 0;
  std::int64_t tile_rows = 0;  ///< fewer than `rows`
};

/// Replaces each block by its tiles, one after the other. Blocks come in program order and their
/// nodes do not interleave. Results by rows that others read are written together into whole ones;
/// nodes with them keep the whole's rows as the attribute `whole_rows`, by which the kernel is
/// chosen; sums over rows add up over the tiles, rounded stochastically (of `seed`) where they are
/// bf16. A block is left as it is when a node between its own both needs it and feeds it.
void tile_rows(Graph& graph, std::span<const RowBlock> blocks, std::int64_t seed);

}  // namespace snug
