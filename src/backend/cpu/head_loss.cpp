#include "backend/cpu/head_loss.h"

#include <algorithm>
#include <array>
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

/// Scratch of a factor's products with a tile of `classes` classes.
std::int64_t factor_bytes(const HeadLoss& s, std::int64_t width, bool weight_gradient,
                          std::int64_t classes, Isa isa, int threads) {
  const auto bytes = [&](std::int64_t m, std::int64_t n, std::int64_t k, bool a_k_contiguous,
                         bool rounding) {
    return gemm_scratch({m, n, k, s.type, s.type, a_k_contiguous, rounding}, isa, threads);
  };
  std::int64_t most = bytes(s.chunk_rows, classes, width, true, false);
  if (s.gradients) most = std::max(most, bytes(s.chunk_rows, width, classes, true, false));
  if (weight_gradient) {
    most = std::max({most, bytes(classes, width, s.chunk_rows, false, false),
                     bytes(classes, width, s.chunk_rows, false, true)});
  }
  return most;
}

std::int64_t tile_bytes(const HeadLoss& s, std::int64_t classes, Isa isa, int threads) {
  const std::int64_t head = factor_bytes(s, s.width, s.weight_gradient, classes, isa, threads);
  if (s.rank == 0) return head;
  return std::max(head, factor_bytes(s, s.rank, s.gradients, classes, isa, threads));
}

std::int64_t products_bytes(const HeadLoss& s, Isa isa, int threads) {
  const std::int64_t last = (s.vocabulary - 1) % s.chunk_columns + 1;
  return std::max(tile_bytes(s, s.chunk_columns, isa, threads), tile_bytes(s, last, isa, threads));
}

/// Floats from one row of logits to the next: an odd number of cache lines, so that rows do not
/// fall into the same sets of a cache.
std::int64_t logits_stride(const HeadLoss& s) { return ((s.chunk_columns + 15) / 16 | 1) * 16; }

/// A factor of the logits and its pieces of scratch.
struct Factor {
  const HeadFactor* of = nullptr;
  std::int64_t width = 0;
  std::byte* x = nullptr;  ///< the chunk's rows of x; in the end those of dx
  float* dx = nullptr;     ///< [chunk_rows, width]: the sums over tiles, where there are several
};

/// The pieces of scratch of one call.
struct Buffers {
  Buffers(const HeadLossCall& call, std::span<std::byte> area) {
    const HeadLoss& s = call.shape;
    Scratch scratch(area);
    rows = scratch.take<std::int32_t>(s.tokens);
    labels = scratch.take<std::int32_t>(s.chunk_rows);
    states = scratch.take<SoftmaxState>(s.chunk_rows);
    logits = scratch.take<float>(s.chunk_rows * logits_stride(s));
    factors[0] = {.of = &call.head, .width = s.width};
    factors[1] = {.of = &call.adapter, .width = s.rank};
    for (Factor& factor : used(s)) {
      factor.x = scratch.take<std::byte>(s.chunk_rows * factor.width * size_of(s.type));
      if (s.gradients && !one_tile(s)) factor.dx = scratch.take<float>(s.chunk_rows * factor.width);
    }
    products = area.subspan(static_cast<std::size_t>(bytes(s)));
  }

  static std::int64_t bytes(const HeadLoss& s) {
    std::int64_t total = scratch_bytes(s.tokens, 4) + scratch_bytes(s.chunk_rows, 4) +
                         scratch_bytes(s.chunk_rows, sizeof(SoftmaxState)) +
                         scratch_bytes(s.chunk_rows * logits_stride(s), sizeof(float));
    for (const std::int64_t width : {s.width, s.rank}) {
      total += scratch_bytes(s.chunk_rows * width * size_of(s.type), 1);
      if (s.gradients && !one_tile(s)) total += scratch_bytes(s.chunk_rows * width, sizeof(float));
    }
    return total;
  }

  std::span<Factor> used(const HeadLoss& s) {
    return std::span(factors).first(s.rank == 0 ? std::size_t{1} : std::size_t{2});
  }

  std::int32_t* rows;    ///< tokens that have a label, ascending
  std::int32_t* labels;  ///< of the chunk
  SoftmaxState* states;  ///< of the chunk
  float* logits;         ///< of the tile; each row of their gradient takes its logits' place
  std::array<Factor, 2> factors;
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
      : call_(call), s_(call.shape), isa_(isa), pool_(pool), buffers_(call, scratch) {}

  double run() {
    const std::int64_t count = find_rows();
    if (count == 0) clear_weight_gradients();
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
  std::span<Factor> factors() { return buffers_.used(s_); }

  /// Lists the tokens that have a label; dx of the others is 0.
  std::int64_t find_rows() {
    std::int64_t count = 0;
    for (std::int64_t t = 0; t < s_.tokens; ++t) {
      if (call_.labels[t] < 0) {
        if (!s_.gradients) continue;
        for (const Factor& f : factors()) std::memset(dx_row(f, t), 0, row_bytes(f));
        continue;
      }
      check(call_.labels[t] < s_.vocabulary, "label {} is outside the vocabulary of {}",
            call_.labels[t], s_.vocabulary);
      buffers_.rows[count++] = static_cast<std::int32_t>(t);
    }
    return count;
  }

  /// A step without a label still writes its gradients in full.
  void clear_weight_gradients() {
    for (const Factor& f : factors()) {
      const auto& dw = f.of->dw;
      if (!dw || dw->accumulate) continue;
      std::memset(dw->data, 0,
                  static_cast<std::size_t>(s_.vocabulary * f.width * size_of(dw->type)));
    }
  }

  void gather() {
    for (std::int64_t r = 0; r < count_; ++r) buffers_.labels[r] = call_.labels[rows_[r]];
    for (const Factor& f : factors()) {
      const auto* x = static_cast<const std::byte*>(f.of->x.data);
      for (std::int64_t r = 0; r < count_; ++r) {
        std::memcpy(chunk_row(f, r), x + rows_[r] * f.of->x.stride * size_of(s_.type),
                    row_bytes(f));
      }
    }
    softmax_start(buffers_.states, count_);
  }

  void scatter() {
    for (const Factor& f : factors()) {
      for (std::int64_t r = 0; r < count_; ++r) {
        std::memcpy(dx_row(f, rows_[r]), chunk_row(f, r), row_bytes(f));
      }
    }
  }

  void visit_once(std::int64_t chunk) {
    const Classes all{0, s_.vocabulary};
    make_logits(all);
    if (!s_.gradients) return softmax_update(block(all), buffers_.states, pool_);
    softmax_gradient(block(all), buffers_.states, call_.weight, s_.type, dz(), pool_);
    for (const Factor& f : factors()) {
      if (f.of->dw) add_weight_gradient(f, all, chunk);
      // dx takes the place of the gathered x, which nothing reads any more.
      add_input_gradient(f, all, {.data = f.x, .dtype = s_.type, .stride = f.width});
    }
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
      for (const Factor& f : factors()) {
        if (f.of->dw) add_weight_gradient(f, tile(t), chunk);
        add_input_gradient(
            f, tile(t),
            {.data = f.dx, .dtype = DType::f32, .stride = f.width, .accumulate = t != tiles - 1});
      }
    }
    for (const Factor& f : factors()) {
      cast(DType::f32, s_.type, count_, f.width, {f.dx, f.width}, {f.x, f.width}, pool_);
    }
  }

  void make_logits(Classes classes) {
    for (const Factor& f : factors()) {
      gemm(count_, classes.size(), f.width, {f.x, s_.type, f.width, true},
           weights(f, classes, true),
           {.data = buffers_.logits,
            .stride = logits_stride(s_),
            .accumulate = &f != factors().data()},
           isa_, buffers_.products, pool_);
    }
  }

  void add_input_gradient(const Factor& f, Classes classes, const GemmOutput& dx) {
    gemm(count_, f.width, classes.size(), {buffers_.logits, s_.type, dz().stride, true},
         weights(f, classes, false), dx, isa_, buffers_.products, pool_);
  }

  void add_weight_gradient(const Factor& f, Classes classes, std::int64_t chunk) {
    const GradientOutput& to = *f.of->dw;
    const std::int64_t first = classes.begin * f.width;
    GemmOutput dw;
    dw.data = static_cast<std::byte*>(to.data) + first * size_of(to.type);
    dw.dtype = to.type;
    dw.stride = f.width;
    dw.accumulate = to.accumulate || chunk > 0;
    if (to.rounding != nullptr && dw.accumulate && dw.dtype == DType::bf16) {
      RandomStream random = *to.rounding;
      random.stream += static_cast<std::uint64_t>(chunk) * kChunkStream;
      dw.rounding = StochasticRounding{random, static_cast<std::uint64_t>(first),
                                       static_cast<std::uint64_t>(f.width)};
    }
    gemm(classes.size(), f.width, count_, {buffers_.logits, s_.type, dz().stride, false},
         {f.x, s_.type, f.width, false}, dw, isa_, buffers_.products, pool_);
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
  GemmMatrix weights(const Factor& f, Classes classes, bool k_contiguous) const {
    const auto* w = static_cast<const std::byte*>(f.of->w.data);
    return {w + classes.begin * f.of->w.stride * size_of(s_.type), s_.type, f.of->w.stride,
            k_contiguous};
  }
  std::size_t row_bytes(const Factor& f) const {
    return static_cast<std::size_t>(f.width * size_of(s_.type));
  }
  std::byte* dx_row(const Factor& f, std::int64_t t) const {
    return static_cast<std::byte*>(f.of->dx.data) + t * f.of->dx.stride * size_of(s_.type);
  }
  std::byte* chunk_row(const Factor& f, std::int64_t r) const {
    return f.x + r * static_cast<std::int64_t>(row_bytes(f));
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
