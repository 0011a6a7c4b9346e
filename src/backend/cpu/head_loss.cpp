#include "backend/cpu/head_loss.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/cross_entropy.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/scratch.h"
#include "core/error.h"

namespace snug {
namespace {

/// Different chunks that round into the same gradient draw different numbers.
constexpr std::uint64_t kChunkStream = 0x9e3779b97f4a7c15ULL;

std::int64_t gemm_bytes(const HeadLoss& s, Isa isa, int threads) {
  const std::int64_t rows = s.chunk_rows;
  std::int64_t bytes = gemm_scratch(
      {.m = rows, .n = s.vocabulary, .k = s.width, .a = s.type, .b = s.type}, isa, threads);
  if (s.gradients) {
    bytes = std::max(
        bytes, gemm_scratch({.m = rows, .n = s.width, .k = s.vocabulary, .a = s.type, .b = s.type},
                            isa, threads));
  }
  if (s.weight_gradient) {
    bytes = std::max(bytes, gemm_scratch({.m = s.vocabulary,
                                          .n = s.width,
                                          .k = rows,
                                          .a = s.type,
                                          .b = s.type,
                                          .a_k_contiguous = false,
                                          .rounding = true},
                                         isa, threads));
  }
  return bytes;
}

/// Floats from one row of logits to the next: an odd number of cache lines, so that rows do not
/// fall into the same sets of a cache.
std::int64_t logits_stride(std::int64_t vocabulary) { return ((vocabulary + 15) / 16 | 1) * 16; }

/// The pieces of scratch of one call.
struct Buffers {
  Buffers(const HeadLoss& s, std::span<std::byte> area) {
    Scratch scratch(area);
    rows = scratch.take<std::int32_t>(s.tokens);
    labels = scratch.take<std::int32_t>(s.chunk_rows);
    states = scratch.take<SoftmaxState>(s.chunk_rows);
    x = scratch.take<std::byte>(s.chunk_rows * s.width * size_of(s.type));
    logits = scratch.take<float>(s.chunk_rows * logits_stride(s.vocabulary));
    const std::int64_t used = bytes(s);
    gemm = area.subspan(static_cast<std::size_t>(used));
  }

  static std::int64_t bytes(const HeadLoss& s) {
    return scratch_bytes(s.tokens, 4) + scratch_bytes(s.chunk_rows, 4) +
           scratch_bytes(s.chunk_rows, sizeof(SoftmaxState)) +
           scratch_bytes(s.chunk_rows * s.width * size_of(s.type), 1) +
           scratch_bytes(s.chunk_rows * logits_stride(s.vocabulary), sizeof(float));
  }

  std::int32_t* rows;    ///< tokens that have a label, ascending
  std::int32_t* labels;  ///< of the chunk
  SoftmaxState* states;  ///< of the chunk
  std::byte* x;          ///< the chunk's rows of x; later those of dx
  float* logits;         ///< of the chunk; each row of their gradient takes its logits' place
  std::span<std::byte> gemm;
};

/// One chunk of labelled rows after the other.
class ChunkLoop {
 public:
  ChunkLoop(const HeadLossCall& call, Isa isa, std::span<std::byte> scratch, ThreadPool& pool)
      : call_(call), s_(call.shape), isa_(isa), pool_(pool), buffers_(s_, scratch) {}

  double run() {
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
    if (count == 0) clear_weight_gradient();
    double loss = 0;
    const std::int64_t chunks = (count + s_.chunk_rows - 1) / s_.chunk_rows;
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {  // about equal ones
      const std::int64_t first = chunk * count / chunks;
      rows_ = buffers_.rows + first;
      count_ = (chunk + 1) * count / chunks - first;
      loss += forward();
      if (s_.gradients) backward(chunk);
    }
    return loss;
  }

 private:
  std::size_t row_bytes() const { return static_cast<std::size_t>(s_.width * size_of(s_.type)); }
  std::byte* dx_row(std::int64_t t) const {
    return static_cast<std::byte*>(call_.dx.data) + t * call_.dx.stride * size_of(s_.type);
  }
  std::byte* chunk_row(std::int64_t r) const {
    return buffers_.x + r * static_cast<std::int64_t>(row_bytes());
  }

  /// A step without a label still writes its gradient in full.
  void clear_weight_gradient() const {
    if (!call_.dw || call_.dw->accumulate) return;
    std::memset(call_.dw->data, 0,
                static_cast<std::size_t>(s_.vocabulary * s_.width * size_of(call_.dw->type)));
  }

  LogitsBlock block() const {
    return {.rows = count_,
            .classes = s_.vocabulary,
            .first_class = 0,
            .data = buffers_.logits,
            .stride = logits_stride(s_.vocabulary),
            .labels = buffers_.labels};
  }

  /// Elements from one row of the logits' gradient to the next.
  std::int64_t dz_stride() const {
    return logits_stride(s_.vocabulary) * size_of(DType::f32) / size_of(s_.type);
  }

  double forward() {
    const auto* x = static_cast<const std::byte*>(call_.x.data);
    for (std::int64_t r = 0; r < count_; ++r) {
      buffers_.labels[r] = call_.labels[rows_[r]];
      std::memcpy(chunk_row(r), x + rows_[r] * call_.x.stride * size_of(s_.type), row_bytes());
    }
    GemmOutput logits;
    logits.data = buffers_.logits;
    logits.stride = logits_stride(s_.vocabulary);
    gemm(count_, s_.vocabulary, s_.width, {buffers_.x, s_.type, s_.width, true},
         {call_.w.data, s_.type, call_.w.stride, true}, logits, isa_, buffers_.gemm, pool_);
    softmax_start(buffers_.states, count_);
    if (s_.gradients) {
      softmax_gradient(block(), buffers_.states, call_.weight, s_.type,
                       {buffers_.logits, dz_stride()}, pool_);
    } else {
      softmax_update(block(), buffers_.states, pool_);
    }
    return cross_entropy(buffers_.states, buffers_.labels, count_);
  }

  void backward(std::int64_t chunk) {
    if (call_.dw) weight_gradient(chunk);
    // dx takes the place of the gathered x, which nothing reads any more.
    GemmOutput dx;
    dx.data = buffers_.x;
    dx.dtype = s_.type;
    dx.stride = s_.width;
    gemm(count_, s_.width, s_.vocabulary, {buffers_.logits, s_.type, dz_stride(), true},
         {call_.w.data, s_.type, call_.w.stride, false}, dx, isa_, buffers_.gemm, pool_);
    for (std::int64_t r = 0; r < count_; ++r) {
      std::memcpy(dx_row(rows_[r]), chunk_row(r), row_bytes());
    }
  }

  void weight_gradient(std::int64_t chunk) {
    GemmOutput dw;
    dw.data = call_.dw->data;
    dw.dtype = call_.dw->type;
    dw.stride = s_.width;
    dw.accumulate = call_.dw->accumulate || chunk > 0;
    if (call_.dw->rounding != nullptr && dw.accumulate && dw.dtype == DType::bf16) {
      RandomStream random = *call_.dw->rounding;
      random.stream += static_cast<std::uint64_t>(chunk) * kChunkStream;
      dw.rounding = StochasticRounding{random, 0, static_cast<std::uint64_t>(s_.width)};
    }
    gemm(s_.vocabulary, s_.width, count_, {buffers_.logits, s_.type, dz_stride(), false},
         {buffers_.x, s_.type, s_.width, false}, dw, isa_, buffers_.gemm, pool_);
  }

  const HeadLossCall& call_;
  const HeadLoss& s_;
  Isa isa_;
  ThreadPool& pool_;
  Buffers buffers_;
  const std::int32_t* rows_ = nullptr;
  std::int64_t count_ = 0;
};

}  // namespace

std::int64_t head_loss_scratch(const HeadLoss& shape, Isa isa, int threads) {
  return Buffers::bytes(shape) + gemm_bytes(shape, isa, threads);
}

double head_loss(const HeadLossCall& call, Isa isa, std::span<std::byte> scratch,
                 ThreadPool& pool) {
  return ChunkLoop(call, isa, scratch, pool).run();
}

}  // namespace snug
