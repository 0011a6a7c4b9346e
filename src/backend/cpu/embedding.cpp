#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/embedding.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// The target's code comes after foreach_target.h.
#include <algorithm>
#include <cstring>

#include "backend/cpu/embedding.h"
#include "backend/cpu/gradient_output-inl.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/scratch.h"
#include "backend/cpu/simd-inl.h"
#include "core/error.h"

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {
namespace {

template <class T>
void sum_rows_of(const RowsIn& dy, const uint64_t* keys, int64_t count, int64_t width,
                 float* sums) {
  std::fill_n(sums, width, 0.0F);
  for (int64_t k = 0; k < count; ++k) {
    const T* row = dy.row<T>(static_cast<int64_t>(keys[k] & 0xffffffffU));
    for (int64_t i = 0; i < width; i += lanes()) {
      store_in(hn::Add(load_in(sums, i, width), load_in(row, i, width)), sums, i, width);
    }
  }
}

/// Row `id` of dw from the tokens in the low halves of keys[0, count).
void embedding_gradient_row(const EmbeddingShape& shape, const RowsIn& dy, const uint64_t* keys,
                            int64_t count, int64_t id, const GradientOutput& dw, float* sums) {
  if (shape.type == DType::f32) {
    sum_rows_of<float>(dy, keys, count, shape.width, sums);
  } else {
    sum_rows_of<BFloat16>(dy, keys, count, shape.width, sums);
  }
  write_gradient(dw, id * shape.width, sums, shape.width);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace snug {
namespace {

HWY_EXPORT(embedding_gradient_row);

void check_ids(const EmbeddingShape& shape, const std::int32_t* ids) {
  for (std::int64_t t = 0; t < shape.tokens; ++t) {
    check(ids[t] >= 0 && ids[t] < shape.vocabulary, "token {} has id {}, the vocabulary has {}", t,
          ids[t], shape.vocabulary);
  }
}

void clear_rows(const EmbeddingShape& shape, const GradientOutput& dw, std::int64_t begin,
                std::int64_t end) {
  const std::int64_t row_bytes = shape.width * size_of(dw.type);
  std::memset(static_cast<std::byte*>(dw.data) + begin * row_bytes, 0,
              static_cast<std::size_t>((end - begin) * row_bytes));
}

}  // namespace

void embedding(const EmbeddingShape& shape, RowsIn table, const std::int32_t* ids, RowsOut y,
               ThreadPool& pool) {
  check_ids(shape, ids);
  const std::int64_t size = size_of(shape.type);
  for_blocks(pool, shape.tokens, rows_per_block(shape.width),
             [&](std::int64_t begin, std::int64_t end, int) {
               for (std::int64_t t = begin; t < end; ++t) {
                 std::memcpy(
                     static_cast<std::byte*>(y.data) + t * y.stride * size,
                     static_cast<const std::byte*>(table.data) + ids[t] * table.stride * size,
                     static_cast<std::size_t>(shape.width * size));
               }
             });
}

std::int64_t embedding_gradient_scratch(const EmbeddingShape& shape, int threads) {
  return scratch_bytes(shape.tokens, sizeof(std::uint64_t)) +
         scratch_bytes(round_up(shape.width, 16) * threads, sizeof(float));
}

void embedding_gradient(const EmbeddingShape& shape, RowsIn dy, const std::int32_t* ids,
                        const GradientOutput& dw, std::span<std::byte> scratch, ThreadPool& pool) {
  check(shape.type == DType::f32 || shape.type == DType::bf16, "embedding gradient of {}",
        name_of(shape.type));
  check_ids(shape, ids);
  choose_target();
  Scratch rest(scratch);
  auto* keys = rest.take<std::uint64_t>(shape.tokens);
  const std::int64_t padded = round_up(shape.width, 16);
  auto* sums = rest.take<float>(padded * pool.threads());
  for (std::int64_t t = 0; t < shape.tokens; ++t) {
    keys[t] = static_cast<std::uint64_t>(ids[t]) << 32 | static_cast<std::uint64_t>(t);
  }
  const std::uint64_t* keys_end = keys + shape.tokens;
  std::sort(keys, keys + shape.tokens);
  const auto write_row = HWY_DYNAMIC_DISPATCH(embedding_gradient_row);
  const auto first_key = [&](const std::uint64_t* from, std::int64_t id) {
    return std::lower_bound(from, keys_end, static_cast<std::uint64_t>(id) << 32);
  };
  for_blocks(pool, shape.vocabulary, rows_per_block(shape.width, 65536),
             [&](std::int64_t begin, std::int64_t end, int worker) {
               const std::uint64_t* key = first_key(keys, begin);
               for (std::int64_t id = begin; id < end;) {
                 const std::int64_t next =
                     key == keys_end ? end : std::min(end, static_cast<std::int64_t>(*key >> 32));
                 if (!dw.accumulate) clear_rows(shape, dw, id, next);
                 if (next == end) break;
                 const std::uint64_t* after = first_key(key, next + 1);
                 write_row(shape, dy, key, after - key, next, dw, sums + worker * padded);
                 key = after;
                 id = next + 1;
               }
             });
}

}  // namespace snug
#endif
