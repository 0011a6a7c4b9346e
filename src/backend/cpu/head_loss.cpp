#include "backend/cpu/head_loss.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/cross_entropy.h"
#include "backend/cpu/elementwise.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/scratch.h"
#include "core/error.h"

namespace snug {
namespace {

/// Different chunks that round into the same gradient draw different numbers.
constexpr std::uint64_t kChunkStream = 0x9e3779b97f4a7c15ULL;

bool one_tile(const HeadLoss& s) { return s.chunk_columns >= s.vocabulary; }

/// Scratch of the products of a tile of `classes` classes.
std::int64_t tile_bytes(const HeadLoss& s, std::int64_t classes, Isa isa, int threads) {
  const auto bytes = [&](std::int64_t m, std::int64_t n, std::int64_t k, bool a_k_contiguous,
                         bool rounding) {
    return gemm_scratch({m, n, k, s.type, s.type, a_k_contiguous, rounding}, isa, threads);
  };
  std::int64_t most = bytes(s.chunk_rows, classes, s.width, true, false);
  if (s.gradients) most = std::max(most, bytes(s.chunk_rows, s.width, classes, true, false));
  if (s.weight_gradient) {
    most = std::max({most, bytes(classes, s.width, s.chunk_rows, false, false),
                     bytes(classes, s.width, s.chunk_rows, false, true)});
  }
  return most;
}

std::int64_t products_bytes(const HeadLoss& s, Isa isa, int threads) {
  const std::int64_t last = (s.vocabulary - 1) % s.chunk_columns + 1;
  return std::max(tile_bytes(s, s.chunk_columns, isa, threads), tile_bytes(s, last, isa, threads));
}

/// Floats from one row of logits to the next: an odd number of cache lines, so that rows do not
/// fall into the same sets of a cache.
std::int64_t logits_stride(const HeadLoss& s) { return ((s.chunk_columns + 15) / 16 | 1) * 16; }

/// The pieces of scratch of one call.
struct Buffers {
  Buffers(const HeadLoss& s, std::span<std::byte> area) {
    Scratch scratch(area);
    rows = scratch.take<std::int32_t>(s.tokens);
    labels = scratch.take<std::int32_t>(s.chunk_rows);
    states = scratch.take<SoftmaxState>(s.chunk_rows);
    x = scratch.take<std::byte>(s.chunk_rows * s.width * size_of(s.type));
    logits = scratch.take<float>(s.chunk_rows * logits_stride(s));
    if (s.gradients && !one_tile(s)) dx = scratch.take<float>(s.chunk_rows * s.width);
    products = area.subspan(static_cast<std::size_t>(bytes(s)));
  }

  static std::int64_t bytes(const HeadLoss& s) {
    std::int64_t total = scratch_bytes(s.tokens, 4) + scratch_bytes(s.chunk_rows, 4) +
                         scratch_bytes(s.chunk_rows, sizeof(SoftmaxState)) +
                         scratch_bytes(s.chunk_rows * s.width * size_of(s.type), 1) +
                         scratch_bytes(s.chunk_rows * logits_stride(s), sizeof(float));
    if (s.gradients && !one_tile(s)) total += scratch_bytes(s.chunk_rows * s.width, sizeof(float));
    return total;
  }

  std::int32_t* rows;    ///< tokens that have a label, ascending
  std::int32_t* labels;  ///< of the chunk
  SoftmaxState* states;  ///< of the chunk
  std::byte* x;          ///< the chunk's rows of x; in the end those of dx
  float* logits;         ///< of the tile; each row of their gradient takes its logits' place
  float* dx = nullptr;   ///< [chunk_rows, width]: the sums over tiles, where there are several
  std::span<std::byte> products;
};

struct Classes {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const { return end - begin; }
};

/// One chunk of labelled rows after the other, each in tiles of classes.
class HeadLossRun {
 public:
  HeadLossRun(const HeadLossCall& call, Isa isa, std::span<std::byte> scratch, ThreadPool& pool)
      : call_(call), s_(call.shape), isa_(isa), pool_(pool), buffers_(s_, scratch) {}

  double run() {
    const std::int64_t count = find_rows();
    if (count == 0) clear_weight_gradient();
    double loss = 0;
    const std::int64_t chunks = (count + s_.chunk_rows - 1) / s_.chunk_rows;
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {  // about equal ones
      const std::int64_t first = chunk * count / chunks;
      rows_ = buffers_.rows + first;
      count_ = (chunk + 1) * count / chunks - first;
      gather();
      one_tile(s_) ? visit_once(chunk) : visit_twice(chunk);
      loss += cross_entropy(buffers_.states, buffers_.labels, count_);
      if (s_.gradients) scatter();
    }
    return loss;
  }

 private:
  /// Lists the tokens that have a label; dx of the others is 0.
  std::int64_t find_rows() const {
    std::int64_t count = 0;
    for (std::int64_t t = 0; t < s_.tokens; ++t) {
      if (call_.labels[t] < 0) {
        if (s_.gradients) std::memset(dx_row(t), 0, row_bytes());
        continue;
      }
      check(call_.labels[t] < s_.vocabulary, "label {} is outside the vocabulary of {}",
            call_.labels[t], s_.vocabulary);
      buffers_.rows[count++] = static_cast<std::int32_t>(t);
    }
    return count;
  }

  /// A step without a label still writes its gradient in full.
  void clear_weight_gradient() const {
    if (!call_.dw || call_.dw->accumulate) return;
    std::memset(call_.dw->data, 0,
                static_cast<std::size_t>(s_.vocabulary * s_.width * size_of(call_.dw->type)));
  }

  void gather() const {
    const auto* x = static_cast<const std::byte*>(call_.x.data);
    for (std::int64_t r = 0; r < count_; ++r) {
      buffers_.labels[r] = call_.labels[rows_[r]];
      std::memcpy(chunk_row(r), x + rows_[r] * call_.x.stride * size_of(s_.type), row_bytes());
    }
    softmax_start(buffers_.states, count_);
  }

  void scatter() const {
    for (std::int64_t r = 0; r < count_; ++r) {
      std::memcpy(dx_row(rows_[r]), chunk_row(r), row_bytes());
    }
  }

  void visit_once(std::int64_t chunk) {
    const Classes all{0, s_.vocabulary};
    make_logits(all);
    if (!s_.gradients) return softmax_update(block(all), buffers_.states, pool_);
    softmax_gradient(block(all), buffers_.states, call_.weight, s_.type, dz(), pool_);
    if (call_.dw) add_weight_gradient(all, chunk);
    // dx takes the place of the gathered x, which nothing reads any more.
    add_input_gradient(all, {.data = buffers_.x, .dtype = s_.type, .stride = s_.width});
  }

  void visit_twice(std::int64_t chunk) {
    const std::int64_t tiles = (s_.vocabulary + s_.chunk_columns - 1) / s_.chunk_columns;
    for (std::int64_t t = 0; t < tiles; ++t) {
      make_logits(tile(t));
      softmax_update(block(tile(t)), buffers_.states, pool_);
    }
    if (!s_.gradients) return;
    for (std::int64_t t = tiles - 1; t >= 0; --t) {
      if (t != tiles - 1) make_logits(tile(t));  // the last tile's are still there
      cross_entropy_gradient(block(tile(t)), buffers_.states, call_.weight, s_.type, dz(), pool_);
      if (call_.dw) add_weight_gradient(tile(t), chunk);
      add_input_gradient(tile(t), {.data = buffers_.dx,
                                   .dtype = DType::f32,
                                   .stride = s_.width,
                                   .accumulate = t != tiles - 1});
    }
    cast(DType::f32, s_.type, count_, s_.width, {buffers_.dx, s_.width}, {buffers_.x, s_.width},
         pool_);
  }

  void make_logits(Classes classes) {
    gemm(count_, classes.size(), s_.width, {buffers_.x, s_.type, s_.width, true},
         weights(classes, true), {.data = buffers_.logits, .stride = logits_stride(s_)}, isa_,
         buffers_.products, pool_);
  }

  void add_input_gradient(Classes classes, const GemmOutput& dx) {
    gemm(count_, s_.width, classes.size(), {buffers_.logits, s_.type, dz().stride, true},
         weights(classes, false), dx, isa_, buffers_.products, pool_);
  }

  void add_weight_gradient(Classes classes, std::int64_t chunk) {
    const std::int64_t first = classes.begin * s_.width;
    GemmOutput dw;
    dw.data = static_cast<std::byte*>(call_.dw->data) + first * size_of(call_.dw->type);
    dw.dtype = call_.dw->type;
    dw.stride = s_.width;
    dw.accumulate = call_.dw->accumulate || chunk > 0;
    if (call_.dw->rounding != nullptr && dw.accumulate && dw.dtype == DType::bf16) {
      RandomStream random = *call_.dw->rounding;
      random.stream += static_cast<std::uint64_t>(chunk) * kChunkStream;
      dw.rounding = StochasticRounding{random, static_cast<std::uint64_t>(first),
                                       static_cast<std::uint64_t>(s_.width)};
    }
    gemm(classes.size(), s_.width, count_, {buffers_.logits, s_.type, dz().stride, false},
         {buffers_.x, s_.type, s_.width, false}, dw, isa_, buffers_.products, pool_);
  }

  Classes tile(std::int64_t t) const {
    return {t * s_.chunk_columns, std::min(s_.vocabulary, (t + 1) * s_.chunk_columns)};
  }
  LogitsBlock block(Classes classes) const {
    return {.rows = count_,
            .classes = classes.size(),
            .first_class = classes.begin,
            .data = buffers_.logits,
            .stride = logits_stride(s_),
            .labels = buffers_.labels};
  }
  RowsOut dz() const {
    return {buffers_.logits, logits_stride(s_) * size_of(DType::f32) / size_of(s_.type)};
  }
  GemmMatrix weights(Classes classes, bool k_contiguous) const {
    const auto* w = static_cast<const std::byte*>(call_.w.data);
    return {w + classes.begin * call_.w.stride * size_of(s_.type), s_.type, call_.w.stride,
            k_contiguous};
  }
  std::size_t row_bytes() const { return static_cast<std::size_t>(s_.width * size_of(s_.type)); }
  std::byte* dx_row(std::int64_t t) const {
    return static_cast<std::byte*>(call_.dx.data) + t * call_.dx.stride * size_of(s_.type);
  }
  std::byte* chunk_row(std::int64_t r) const {
    return buffers_.x + r * static_cast<std::int64_t>(row_bytes());
  }

  const HeadLossCall& call_;
  const HeadLoss& s_;
  Isa isa_;
  ThreadPool& pool_;
  Buffers buffers_;
  const std::int32_t* rows_ = nullptr;  // of the present chunk
  std::int64_t count_ = 0;
};

}  // namespace

std::int64_t head_loss_scratch(const HeadLoss& shape, Isa isa, int threads) {
  return Buffers::bytes(shape) + products_bytes(shape, isa, threads);
}

double head_loss(const HeadLossCall& call, Isa isa, std::span<std::byte> scratch,
                 ThreadPool& pool) {
  return HeadLossRun(call, isa, scratch, pool).run();
}

}  // namespace snug
