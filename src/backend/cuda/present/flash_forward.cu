// Attention forward: a block has 64 queries of one head and goes over the keys that they see (Dao,
// "FlashAttention-2", arXiv 2307.08691).

#include "backend/cuda/present/flash.cuh"

namespace snug::cuda {
namespace {

/// Running maximum and sum of the two rows that a lane holds.
struct Softmax {
  float peak[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0.0F, 0.0F};
};

/// Over the four lanes that hold a row.
__device__ float row_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xffffffffU, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xffffffffU, value, 2));
}
__device__ float row_sum(float value) {
  value += __shfl_xor_sync(0xffffffffU, value, 1);
  return value + __shfl_xor_sync(0xffffffffU, value, 2);
}

/// Scores to powers of two; sums and outputs so far are brought to the new maximum.
template <int kTiles>
__device__ void take_tile(Softmax& state, SumTile (&scores)[kKeyTiles], SumTile (&out)[kTiles],
                          const int (&first)[2], int row, int key, float scale) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = row + lane / 4 + half * 8;
    float peak = state.peak[half];
#pragma unroll
    for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& score = scores[n].c[2 * half + i];
        const int at = key + n * 8 + lane % 4 * 2 + i;
        score = at >= first[half] && at <= query ? score * scale : -INFINITY;
        peak = fmaxf(peak, score);
      }
    }
    peak = row_max(peak);
    const float keep = peak == -INFINITY ? 1.0F : exp2f(state.peak[half] - peak);
    float sum = 0.0F;
#pragma unroll
    for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& score = scores[n].c[2 * half + i];
        score = score == -INFINITY ? 0.0F : exp2f(score - peak);
        sum += score;
      }
    }
    state.sum[half] = state.sum[half] * keep + sum;
    state.peak[half] = peak;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      out[n].c[2 * half] *= keep;
      out[n].c[2 * half + 1] *= keep;
    }
  }
}

template <int kWidth, class T>
__global__ void __launch_bounds__(kFlashThreads)
    forward_kernel(const __grid_constant__ FlashForward call) {
  T* const keys = block_memory<T>();
  T* const values = keys + Tile<kWidth>::kElements;
  __shared__ int least;
  const FlashShape& s = call.shape;
  const int head = blockIdx.y;
  const int group = head / (s.heads / s.groups);
  const int tile_row = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kFlashTile;  // longest first
  const int row = tile_row + static_cast<int>(threadIdx.x) / 32 * 16;
  const int lane = threadIdx.x % 32;
  const int first[2] = {first_key(s, row + lane / 4), first_key(s, row + lane / 4 + 8)};
  const LeftRows<kWidth, T, kWidth <= 128> queries(call.q, head, row, s);
  Softmax state;
  SumTile out[kWidth / 8] = {};
  const int begin = least_first_key(s, tile_row, &least) / kFlashTile * kFlashTile;
  for (int key = begin; key < tile_row + kFlashTile; key += kFlashTile) {
    __syncthreads();
    load_tile<kWidth>(keys, call.k, group, key, s);
    load_tile<kWidth>(values, call.v, group, key, s);
    __syncthreads();
    SumTile scores[kKeyTiles] = {};
#pragma unroll
    for (int k = 0; k < kWidth / 16; ++k) {
      add_scores<kWidth>(scores, queries[k], keys, k);
    }
    take_tile(state, scores, out, first, row, key, s.scale * kLog2e);
    add_product<kWidth>(out, scores, values);
  }
  float factor[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float sum = row_sum(state.sum[half]);
    factor[half] = sum > 0.0F ? 1.0F / sum : 0.0F;
    const int query = row + lane / 4 + half * 8;
    if (lane % 4 == 0 && query < s.tokens) {
      call.lse[static_cast<std::int64_t>(head) * s.tokens + query] =
          sum > 0.0F ? state.peak[half] / kLog2e + logf(sum) : -INFINITY;
    }
  }
  store_rows<kWidth, T>(out, factor[0], factor[1], call.o, head, row, s);
}

template <int kWidth, class T>
void launch(void* queue, const FlashForward& call) {
  start(queue, forward_kernel<kWidth, T>, grid_of(call.shape, call.shape.heads), kFlashThreads,
        flash_shared_bytes(kWidth), call);
}

}  // namespace

void run_flash_forward(void* queue, const FlashForward& call) {
  by_type_and_width(call.shape, [&](auto type, auto width) {
    launch<decltype(width)::value, decltype(type)>(queue, call);
  });
}

}  // namespace snug::cuda
