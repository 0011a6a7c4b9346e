#include "backend/cuda/head_loss.h"

#include <algorithm>
#include <array>

#include "backend/cuda/bodies_elements.h"
#include "backend/cuda/bodies_loss.h"
#include "core/error.h"

namespace snug::cuda {
namespace {

/// Different chunks that round into the same gradient draw different numbers (as on the CPU).
constexpr std::uint64_t kChunkStream = 0x9e3779b97f4a7c15ULL;

struct Sizes {
  std::int64_t tokens, width, rank, classes, chunk_rows, chunk_classes;
  DType type;
  bool gradients;

  bool one_tile() const { return chunk_classes >= classes; }
  bool narrow() const { return type != DType::f32; }
};

bool has_gradients(Op op) { return op == Op::head_loss_grad || op == Op::adapted_head_loss_grad; }

template <class LayoutOf>
Sizes sizes_of(Op op, const Attributes& attributes, const LayoutOf& layout) {
  const TensorType& x = layout(0).type;
  const auto piece = [&](const char* key, std::int64_t all) {
    const std::int64_t given = attributes.integer_or(key, 0);
    return given <= 0 ? all : std::min(given, all);
  };
  const std::int64_t classes = layout(1).type.shape[0];
  return {.tokens = x.shape[0],
          .width = x.shape[1],
          .rank = is_adapted(op) ? layout(3).type.shape[1] : 0,
          .classes = classes,
          .chunk_rows = piece("chunk_rows", x.shape[0]),
          .chunk_classes = piece("chunk_columns", classes),
          .type = x.dtype,
          .gradients = has_gradients(op)};
}

/// A factor of the logits: the head's x and w, or an adapter's low and up.
struct Side {
  View x, w;
  View dx;  ///< not present: not wanted
  Sum dw;   ///< its `out` not present: not wanted
  std::int64_t width = 0;
  float* sums = nullptr;  ///< [chunk_rows, width]: of dx over tiles, where there are several
};

struct Buffers {
  float* losses;
  SoftmaxState* states;
  float* logits;
  View dz;
  std::array<float*, 2> sums;
  std::span<std::byte> products;
};

/// One layout for planning (area empty) and running.
std::int64_t lay_out(const Sizes& s, std::int64_t products, std::span<std::byte> area,
                     Buffers* buffers) {
  std::int64_t used = 0;
  const auto take = [&](std::int64_t count, std::size_t size) {
    const std::int64_t at = used;
    used += Pieces::bytes(count, size);
    return area.empty() ? nullptr : area.data() + at;
  };
  auto* const losses = take(s.tokens, sizeof(float));
  auto* const states = take(s.chunk_rows, sizeof(SoftmaxState));
  auto* const logits = take(s.chunk_rows * s.chunk_classes, sizeof(float));
  std::byte* dz = logits;
  if (s.gradients && s.narrow()) {
    dz = take(s.chunk_rows * s.chunk_classes, static_cast<std::size_t>(size_of(s.type)));
  }
  std::array<std::byte*, 2> sums{};
  if (s.gradients && !s.one_tile()) {
    sums[0] = take(s.chunk_rows * s.width, sizeof(float));
    sums[1] = take(s.chunk_rows * s.rank, sizeof(float));
  }
  const std::int64_t begin = used;
  take(products, 1);
  if (buffers != nullptr) {
    check(used <= static_cast<std::int64_t>(area.size()), "{} bytes of a grant of {}", used,
          area.size());
    *buffers = {.losses = reinterpret_cast<float*>(losses),
                .states = reinterpret_cast<SoftmaxState*>(states),
                .logits = reinterpret_cast<float*>(logits),
                .dz = {.data = dz, .type = s.type, .size = s.chunk_rows * s.chunk_classes},
                .sums = {reinterpret_cast<float*>(sums[0]), reinterpret_cast<float*>(sums[1])},
                .products = area.subspan(static_cast<std::size_t>(begin))};
  }
  return used;
}

class Run {
 public:
  Run(const KernelCall& call, Op op, RunProduct product)
      : call_(call),
        s_(sizes_of(op, call.attributes,
                    [&](std::size_t i) -> const OperandLayout& { return call.inputs[i].layout; })),
        product_(product),
        labels_(pointer<const std::int32_t>(call, 2)) {
    lay_out(s_, 0, call.scratch, &b_);
    sides_[0] = {.x = in(call, 0), .w = in(call, 1), .dx = {}, .dw = {}, .width = s_.width};
    if (is_adapted(op)) {
      sides_[1] = {.x = in(call, 3), .w = in(call, 4), .dx = {}, .dw = {}, .width = s_.rank};
    }
    if (!s_.gradients) return;
    const std::size_t weight = is_adapted(op) ? 5 : 3;
    weight_ = pointer<const float>(call, weight);
    sides_[0].dx = out(call, 1);
    if (is_adapted(op)) {
      sides_[1].dx = out(call, 2);
      sides_[1].dw = sum_of(call, 3, weight + 1);
    } else {
      sides_[0].dw = sum_of(call, 2, weight + 1);
    }
    for (std::size_t i = 0; i < 2; ++i) sides_[i].sums = b_.sums[i];
  }

  void run() {
    for (std::int64_t first = 0; first < s_.tokens; first += s_.chunk_rows) {
      first_ = first;
      rows_ = std::min(s_.chunk_rows, s_.tokens - first);
      visit_chunk();
    }
    teams(call_.queue, 1, SumOfLosses{b_.losses, s_.tokens, out(call_, 0)});
  }

 private:
  template <class Body>
  void each_tile(const Body& body) {
    for (std::int64_t begin = 0; begin < s_.classes; begin += s_.chunk_classes) {
      begin_ = begin;
      classes_ = std::min(s_.chunk_classes, s_.classes - begin);
      body();
    }
  }

  void visit_chunk() {
    each_tile([&] {
      logits();
      teams(call_.queue, rows_,
            SoftmaxTile{b_.logits, labels_ + first_, b_.states, classes_, begin_, begin_ == 0});
    });
    each(call_.queue, rows_, RowLoss{b_.states, labels_ + first_, b_.losses + first_});
    if (!s_.gradients) return;
    each_tile([&] {
      if (!s_.one_tile()) logits();
      teams(
          call_.queue, rows_,
          LogitGradient{b_.logits, b_.dz, b_.states, labels_ + first_, weight_, classes_, begin_});
      for (const Side& side : sides_) {
        if (side.width == 0) continue;
        row_gradient(side);
        if (side.dw.out.present()) weight_gradient(side);
      }
    });
  }

  Factor chunk_of(const View& x, std::int64_t width) const {
    return rows_of(part_of(x, first_ * width, rows_ * width), width);
  }
  View tile_of(const View& w, std::int64_t width) const {
    return part_of(w, begin_ * width, classes_ * width);
  }
  void product(const Product& p) const { product_(p, b_.products); }

  void logits() const {
    const View z = floats(b_.logits, rows_ * classes_);
    bool add = false;
    for (const Side& side : sides_) {
      if (side.width == 0) continue;
      product({chunk_of(side.x, side.width),
               rows_of(tile_of(side.w, side.width), side.width),
               {},
               {z, add ? z : View{}, {}},
               rows_,
               classes_,
               side.width});
      add = true;
    }
  }

  void row_gradient(const Side& side) const {
    const View dx = part_of(side.dx, first_ * side.width, rows_ * side.width);
    const View sums = floats(side.sums, rows_ * side.width);
    const bool last = begin_ + classes_ == s_.classes;
    const View to = s_.one_tile() ? dx : sums;
    product({rows_of(b_.dz, classes_),
             columns_of(tile_of(side.w, side.width), side.width),
             {},
             {to, begin_ > 0 ? to : View{}, {}},
             rows_,
             side.width,
             classes_});
    if (!s_.one_tile() && last) {
      each(call_.queue, dx.size, Unary{Unary::Kind::same, 0.0F, sums, dx});
    }
  }

  void weight_gradient(const Side& side) const {
    Sum to = side.dw;
    to.first = begin_ * side.width;
    to.out = tile_of(side.dw.out, side.width);
    to.acc = first_ > 0 ? to.out : tile_of(side.dw.acc, side.width);
    to.rounding.stream += static_cast<std::uint64_t>(first_ / s_.chunk_rows) * kChunkStream;
    if (!to.acc.present()) to.rounding.draw = nullptr;
    product({columns_of(b_.dz, classes_),
             columns_of(part_of(side.x, first_ * side.width, rows_ * side.width), side.width),
             {},
             to,
             classes_,
             side.width,
             rows_});
  }

  const KernelCall& call_;
  Sizes s_;
  RunProduct product_;
  const std::int32_t* labels_;
  const float* weight_ = nullptr;
  Buffers b_{};
  std::array<Side, 2> sides_;
  std::int64_t first_ = 0, rows_ = 0;     ///< of the chunk
  std::int64_t begin_ = 0, classes_ = 0;  ///< of the tile
};

}  // namespace

std::int64_t head_loss_bytes(const KernelQuery& query, std::int64_t products) {
  const Sizes s = sizes_of(query.op, query.attributes,
                           [&](std::size_t i) -> const OperandLayout& { return query.inputs[i]; });
  return lay_out(s, products, {}, nullptr);
}

void run_head_loss(const KernelCall& call, Op op, RunProduct product) {
  Run(call, op, product).run();
}

}  // namespace snug::cuda
