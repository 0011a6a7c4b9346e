// Attention backward: one kernel owns the gradients of 64 queries, another those of 64 keys, so
// that every sum has one order. Scores are computed again in both.

#include "backend/cuda/present/flash.cuh"

namespace snug::cuda {
namespace {

/// delta = the sum over a head's width of d_o * o, a warp a row and head.
template <class T>
__global__ void __launch_bounds__(kFlashThreads)
    delta_kernel(const __grid_constant__ FlashBackward call) {
  const FlashShape& s = call.shape;
  const std::int64_t warp =
      static_cast<std::int64_t>(blockIdx.x) * (kFlashThreads / 32) + threadIdx.x / 32;
  const auto t = static_cast<int>(warp / s.heads);
  const auto head = static_cast<int>(warp % s.heads);
  if (t >= s.tokens) return;
  const T* o = static_cast<const T*>(call.o.data) + t * call.o.stride + head * s.width;
  const T* d = static_cast<const T*>(call.d_o.data) + t * call.d_o.stride + head * s.width;
  float sum = 0.0F;
  for (int j = static_cast<int>(threadIdx.x) % 32; j < s.width; j += 32) {
    sum += static_cast<float>(o[j]) * static_cast<float>(d[j]);
  }
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffU, sum, step);
  if (threadIdx.x % 32 == 0) call.delta[static_cast<std::int64_t>(head) * s.tokens + t] = sum;
}

template <int kWidth, class T>
__global__ void __launch_bounds__(kFlashThreads)
    query_kernel(const __grid_constant__ FlashBackward call) {
  T* const keys = block_memory<T>();
  T* const values = keys + Tile<kWidth>::kElements;
  __shared__ int least;
  const FlashShape& s = call.shape;
  const int head = blockIdx.y;
  const int group = head / (s.heads / s.groups);
  const int tile_row = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kFlashTile;
  const int row = tile_row + static_cast<int>(threadIdx.x) / 32 * 16;
  const int lane = threadIdx.x % 32;
  int first[2];
  float lse[2];
  float delta[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = row + lane / 4 + half * 8;
    const std::int64_t at = static_cast<std::int64_t>(head) * s.tokens + query;
    first[half] = first_key(s, query);
    lse[half] = query < s.tokens ? call.lse[at] * kLog2e : 0.0F;
    delta[half] = query < s.tokens ? call.delta[at] : 0.0F;
  }
  const LeftRows<kWidth, T, kWidth <= 128> queries(call.q, head, row, s);
  const LeftRows<kWidth, T, kWidth <= 64> gradients(call.d_o, head, row, s);
  SumTile dq[kWidth / 8] = {};
  const int begin = least_first_key(s, tile_row, &least) / kFlashTile * kFlashTile;
  for (int key = begin; key < tile_row + kFlashTile; key += kFlashTile) {
    __syncthreads();
    load_tile<kWidth>(keys, call.k, group, key, s);
    load_tile<kWidth>(values, call.v, group, key, s);
    __syncthreads();
    SumTile scores[kKeyTiles] = {};
    SumTile dp[kKeyTiles] = {};
#pragma unroll
    for (int k = 0; k < kWidth / 16; ++k) {
      add_scores<kWidth>(scores, queries[k], keys, k);
      add_scores<kWidth>(dp, gradients[k], values, k);
    }
#pragma unroll
    for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int half = i / 2;
        const int at = key + n * 8 + lane % 4 * 2 + i % 2;
        const bool seen = at >= first[half] && at <= row + lane / 4 + half * 8;
        const float p = seen ? exp2f(scores[n].c[i] * s.scale * kLog2e - lse[half]) : 0.0F;
        scores[n].c[i] = p * (dp[n].c[i] - delta[half]) * s.scale;
      }
    }
    add_product<kWidth>(dq, scores, keys);
  }
  store_rows<kWidth, T>(dq, 1.0F, 1.0F, call.dq, head, row, s);
}

/// Gradients of 64 keys (kKeys) or values, or both: the columns of the score tiles are queries.
template <int kWidth, class T, bool kKeys, bool kValues>
__global__ void __launch_bounds__(kFlashThreads)
    key_kernel(const __grid_constant__ FlashBackward call) {
  T* const queries = block_memory<T>();
  T* const gradients = queries + Tile<kWidth>::kElements;
  auto* const lse = reinterpret_cast<float*>(gradients + Tile<kWidth>::kElements);
  float* const delta = lse + kFlashTile;
  auto* const first = reinterpret_cast<int*>(delta + kFlashTile);
  __shared__ int least;
  const FlashShape& s = call.shape;
  const int group = blockIdx.y;
  const int share = s.heads / s.groups;
  const int tile_key = static_cast<int>(blockIdx.x) * kFlashTile;
  const int row = tile_key + static_cast<int>(threadIdx.x) / 32 * 16;
  const int lane = threadIdx.x % 32;
  const LeftRows<kWidth, T, kWidth <= 64> keys(call.k, group, row, s);
  const LeftRows<kWidth, T, kWidth <= 64> values(call.v, group, row, s);
  SumTile dk[kKeys ? kWidth / 8 : 1] = {};
  SumTile dv[kValues ? kWidth / 8 : 1] = {};
  for (int query = tile_key; query < s.tokens; query += kFlashTile) {
    // Documents that begin behind these keys see none of them.
    if (least_first_key(s, query, &least) >= tile_key + kFlashTile) continue;
    for (int head = group * share; head < (group + 1) * share; ++head) {
      __syncthreads();
      load_tile<kWidth>(queries, call.q, head, query, s);
      load_tile<kWidth>(gradients, call.d_o, head, query, s);
      if (threadIdx.x < kFlashTile) {
        const int t = query + static_cast<int>(threadIdx.x);
        const std::int64_t at = static_cast<std::int64_t>(head) * s.tokens + t;
        lse[threadIdx.x] = t < s.tokens ? call.lse[at] * kLog2e : 0.0F;
        delta[threadIdx.x] = t < s.tokens ? call.delta[at] : 0.0F;
        first[threadIdx.x] = first_key(s, t);
      }
      __syncthreads();
      SumTile scores[kKeyTiles] = {};
      SumTile dp[kKeyTiles] = {};
#pragma unroll
      for (int k = 0; k < kWidth / 16; ++k) {
        add_scores<kWidth>(scores, keys[k], queries, k);
        if constexpr (kKeys) {
          add_scores<kWidth>(dp, values[k], gradients, k);
        }
      }
#pragma unroll
      for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int key = row + lane / 4 + i / 2 * 8;
          const int column = n * 8 + lane % 4 * 2 + i % 2;
          const bool seen = key >= first[column] && key <= query + column;
          const float p = seen ? exp2f(scores[n].c[i] * s.scale * kLog2e - lse[column]) : 0.0F;
          scores[n].c[i] = p;
          if constexpr (kKeys) dp[n].c[i] = p * (dp[n].c[i] - delta[column]) * s.scale;
        }
      }
      if constexpr (kValues) add_product<kWidth>(dv, scores, gradients);
      if constexpr (kKeys) add_product<kWidth>(dk, dp, queries);
    }
  }
  if constexpr (kKeys) store_rows<kWidth, T>(dk, 1.0F, 1.0F, call.dk, group, row, s);
  if constexpr (kValues) store_rows<kWidth, T>(dv, 1.0F, 1.0F, call.dv, group, row, s);
}

template <int kWidth, class T>
void launch(void* queue, const FlashBackward& call) {
  const FlashShape& s = call.shape;
  const std::int64_t warps = static_cast<std::int64_t>(s.tokens) * s.heads;
  constexpr int kWarps = kFlashThreads / 32;
  const auto blocks = static_cast<unsigned>((warps + kWarps - 1) / kWarps);
  start(queue, delta_kernel<T>, {.x = blocks}, kFlashThreads, 0, call);
  const auto by_tiles = [&](auto* kernel, int heads) {
    start(queue, kernel, grid_of(s, heads), kFlashThreads, flash_shared_bytes(kWidth), call);
  };
  by_tiles(query_kernel<kWidth, T>, s.heads);
  if constexpr (kWidth <= 128) {
    by_tiles(key_kernel<kWidth, T, true, true>, s.groups);
  } else {  // both sums of a wide head do not fit into a warp's registers
    by_tiles(key_kernel<kWidth, T, true, false>, s.groups);
    by_tiles(key_kernel<kWidth, T, false, true>, s.groups);
  }
}

}  // namespace

void run_flash_backward(void* queue, const FlashBackward& call) {
  by_type_and_width(call.shape, [&](auto type, auto width) {
    launch<decltype(width)::value, decltype(type)>(queue, call);
  });
}

}  // namespace snug::cuda
