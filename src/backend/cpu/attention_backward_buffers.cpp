#include "backend/cpu/attention_backward_buffers.h"

#include <utility>

#include "backend/cpu/scratch.h"

namespace snug {
namespace {

struct BufferSizes {
  std::int64_t rows;
  std::int64_t dim;
  std::int64_t document;
  std::int64_t floats;
};

BufferSizes buffer_sizes(const AttentionShape& shape, std::int64_t tokens) {
  BufferSizes sizes{};
  sizes.rows = round_up(queries_per_tile(shape) * shape.group(), 32);
  sizes.dim = round_up(shape.head_dim, 16);
  sizes.document = round_up(tokens, kRowPadding) * sizes.dim;
  sizes.floats = 5 * sizes.rows * sizes.dim + 2 * kKeyTile * sizes.dim + 2 * kKeyTile * sizes.rows +
                 kKeyTile * sizes.dim + 3 * sizes.rows + 2 * sizes.document;
  return sizes;
}

}  // namespace

std::int64_t backward_floats(const AttentionShape& shape, std::int64_t tokens) {
  return buffer_sizes(shape, tokens).floats;
}

BackwardBuffers backward_buffers(const AttentionShape& shape, std::int64_t tokens, float* area) {
  const BufferSizes sizes = buffer_sizes(shape, tokens);
  const auto take = [&area](std::int64_t count) { return std::exchange(area, area + count); };
  BackwardBuffers buffers{};
  buffers.padded_rows = sizes.rows;
  buffers.padded_dim = sizes.dim;
  buffers.query = take(sizes.rows * sizes.dim);
  buffers.query_scaled = take(sizes.rows * sizes.dim);
  buffers.grad_output = take(sizes.rows * sizes.dim);
  buffers.grad_output_t = take(sizes.rows * sizes.dim);
  buffers.grad_query = take(sizes.rows * sizes.dim);
  buffers.keys = take(kKeyTile * sizes.dim);
  buffers.values = take(kKeyTile * sizes.dim);
  buffers.keys_t = take(kKeyTile / 2 * sizes.dim);
  buffers.probability = take(kKeyTile * sizes.rows);
  buffers.grad_score = take(kKeyTile * sizes.rows);
  buffers.staging = take(kKeyTile / 2 * sizes.dim);
  buffers.lse = take(sizes.rows);
  buffers.delta = take(sizes.rows);
  buffers.at = reinterpret_cast<std::int32_t*>(take(sizes.rows));
  buffers.document_grad_k = take(sizes.document);
  buffers.document_grad_v = take(sizes.document);
  return buffers;
}

}  // namespace snug
