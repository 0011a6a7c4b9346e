#pragma once
// Rotary position embedding in Hugging Face's rotate-half convention: element i of a head is
// rotated with element i + head_dim / 2.

#include <cstdint>

#include "core/dtype.h"
#include "core/thread_pool.h"

namespace snug {

/// y[i] = x[i] cos[p, i] - x[i + d/2] sin[p, i], y[i + d/2] = x[i + d/2] cos[p, i] + x[i] sin[p, i]
/// for every head of token t, p = positions[t]. Row t of x starts at t * x_stride.
struct Rope {
  DType type = DType::bf16;  ///< of x and y: bf16 or f32
  std::int64_t tokens = 0;
  std::int64_t heads = 0;
  std::int64_t head_dim = 0;  ///< even
  const void* x = nullptr;    ///< [tokens, heads, head_dim]
  std::int64_t x_stride = 0;
  const float* cos = nullptr;  ///< [max_positions, head_dim / 2]
  const float* sin = nullptr;
  std::int64_t max_positions = 0;
  const std::int32_t* positions = nullptr;  ///< [tokens], each in [0, max_positions)
  bool inverse = false;                     ///< rotates back: the gradient of x from that of y
  void* y = nullptr;                        ///< may be x
  std::int64_t y_stride = 0;
};

/// InternalError for a position outside the table.
void rope(const Rope& call, ThreadPool& pool);

/// How the angles of long contexts are made from those that the model was trained with.
enum class RopeScaling : std::uint8_t { none, linear, llama3 };

struct RopeTable {
  double theta = 10000;
  RopeScaling scaling = RopeScaling::none;
  double factor = 1;           ///< linear, llama3
  double low_freq_factor = 1;  ///< llama3, as the two below
  double high_freq_factor = 4;
  double original_max_positions = 8192;
  std::int64_t positions = 0;
  std::int64_t head_dim = 0;  ///< even
};

/// cos, sin [positions, head_dim / 2]: of position * frequency, computed in double.
void rope_table(const RopeTable& table, float* cos, float* sin, ThreadPool& pool);

}  // namespace snug
