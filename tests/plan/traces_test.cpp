#include "plan/traces.h"

#include <gtest/gtest.h>

namespace snug {
namespace {

/// Appends blocks while time runs.
class Trace {
 public:
  explicit Trace(const TraceShape& shape) : shape_(shape) {}

  std::vector<Block> run() {
    std::int32_t residual = born(shape_.tokens * shape_.hidden);
    for (int layer = 0; layer < shape_.layers; ++layer) residual = forward(layer, residual);
    head(residual);
    for (int layer = shape_.layers - 1; layer >= 0; --layer) backward(layer);
    for (Block& block : blocks_) block.end = std::min(block.end, now_);
    return blocks_;
  }

 private:
  struct Saved {
    std::int32_t input = -1;
    std::vector<std::int32_t> values;
    bool recompute = false;
  };

  std::int32_t born(std::int64_t elements, std::int64_t size = 2) {
    blocks_.push_back({now_, now_, elements * size});
    return static_cast<std::int32_t>(blocks_.size()) - 1;
  }
  void dies(std::int32_t block) { blocks_[static_cast<std::size_t>(block)].end = now_; }
  void tick() { ++now_; }

  std::vector<std::int64_t> sizes() const {
    const std::int64_t t = shape_.tokens;
    return {t * shape_.hidden, t * shape_.hidden, t * shape_.kv,
            t * shape_.kv,     t * shape_.hidden, t * 2,
            t * shape_.hidden, t * shape_.hidden, t * shape_.ffn,
            t * shape_.ffn,    t * shape_.ffn};
  }
  /// Norms and the activation's product are cheap to compute again.
  static bool cheap(std::size_t i) { return i == 0 || i == 7 || i == 10; }

  std::vector<std::int32_t> visit(bool keep_all, bool keep_cheap) {
    std::vector<std::int32_t> made;
    for (std::size_t i = 0; i < sizes().size(); ++i) {
      tick();
      made.push_back(born(sizes()[i]));
      const std::int32_t scratch = born(1 << 20, 1);
      dies(scratch);
    }
    tick();
    for (std::size_t i = 0; i < made.size(); ++i) {
      if (!keep_all || (cheap(i) && !keep_cheap)) dies(made[i]);
    }
    return made;
  }

  std::int32_t forward(int layer, std::int32_t input) {
    const bool drop =
        shape_.kept == Kept::nothing || (shape_.kept == Kept::every_other && layer % 2 == 0);
    Saved saved;
    saved.input = input;
    saved.recompute = drop;
    saved.values = visit(!drop, shape_.kept != Kept::cheap_recomputed);
    saved_.push_back(saved);
    tick();
    const std::int32_t out = born(shape_.tokens * shape_.hidden);
    if (shape_.offload && layer % 2 == 0) {
      for (std::int32_t& value : saved_.back().values) {
        blocks_[static_cast<std::size_t>(value)].end = now_ + 6;  // gone to the host by then
        value = -1;
      }
    }
    return out;
  }

  void head(std::int32_t residual) {
    tick();
    const std::int32_t logits = born(512 * shape_.vocab, 4);
    gradient_ = born(shape_.tokens * shape_.hidden);
    weight_gradient(shape_.vocab * shape_.hidden);
    tick();
    dies(logits);
    dies(residual);
  }

  void weight_gradient(std::int64_t elements) {
    const std::int32_t block = born(elements);
    tick();
    blocks_[static_cast<std::size_t>(block)].end = shape_.accumulate ? 1 << 30 : now_ + 1;
  }

  void backward(int layer) {
    Saved saved = saved_[static_cast<std::size_t>(layer)];
    if (saved.recompute) saved.values = visit(true, true);
    const std::vector<std::int64_t> size = sizes();
    const std::vector<std::int64_t> weights = {
        0, shape_.hidden, shape_.kv,  shape_.kv, 0, 0, shape_.hidden,
        0, shape_.ffn,    shape_.ffn, shape_.ffn};
    std::vector<std::int32_t> gradients;
    for (std::size_t i = size.size(); i-- > 0;) {
      tick();
      if (saved.values[i] < 0) saved.values[i] = born(size[i]);
      gradients.push_back(born(size[i]));
      if (weights[i] > 0) weight_gradient(weights[i] * shape_.hidden);
      tick();
      dies(saved.values[i]);
      if (gradients.size() > 1) dies(gradients[gradients.size() - 2]);
    }
    tick();
    dies(gradients.back());
    dies(gradient_);
    dies(saved.input);
    gradient_ = born(shape_.tokens * shape_.hidden);
  }

  const TraceShape& shape_;
  std::vector<Block> blocks_;
  std::vector<Saved> saved_;
  std::int32_t now_ = 0;
  std::int32_t gradient_ = -1;
};

}  // namespace

std::vector<TraceShape> trace_shapes() {
  std::vector<TraceShape> shapes;
  for (const Kept kept :
       {Kept::everything, Kept::cheap_recomputed, Kept::nothing, Kept::every_other}) {
    for (const bool accumulate : {false, true}) {
      for (const bool offload : {false, true}) {
        const std::string how = std::to_string(static_cast<int>(kept)) +
                                (accumulate ? " accumulate" : "") + (offload ? " offload" : "");
        shapes.push_back(
            {"135m " + how, 30, 2048, 576, 192, 1536, 49152, kept, accumulate, offload});
        shapes.push_back(
            {"8b " + how, 32, 2048, 4096, 1024, 14336, 128256, kept, accumulate, offload});
      }
    }
  }
  for (const Kept kept : {Kept::everything, Kept::nothing}) {
    shapes.push_back({"70b", 80, 32768, 8192, 1024, 28672, 128256, kept, true, false});
  }
  return shapes;
}

std::vector<Block> training_trace(const TraceShape& shape) { return Trace(shape).run(); }

TEST(Traces, NamesAreDistinctEnough) { EXPECT_GE(trace_shapes().size(), 30U); }

}  // namespace snug
